"""Schedule of `topi.xnor_gemm`."""

from tvm.s_tir.schedule import LoopRV

from ..registry import Site, Template, register
from .conv2d import PLAIN_SUMS, schedule_tile
from .pack_matrix import schedule_pack_columns, schedule_pack_rows


def _schedule_xnor_gemm(site: Site) -> LoopRV:
    """Pack both, one after the other, then multiply.

    A panel of the right side stays in L2 while all rows of the left pass by.
    """
    schedule_pack_rows(site.sch, site.stages["pack_rows"], site.stages)
    schedule_pack_columns(site.sch, site.stages["pack_columns"], site.stages)
    return schedule_tile(site, PLAIN_SUMS)


register("llvm", ["xnor_gemm"], Template(_schedule_xnor_gemm))
