"""Schedule of `topi.xnor_gemm`."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from .conv2d import schedule_tile
from .pack_matrix import schedule_pack_columns, schedule_pack_rows
from .tile import TileKnobs


def schedule_xnor_gemm(
    sch: Schedule, anchor: SBlockRV, last: SBlockRV, stages: dict[str, SBlockRV], knobs: TileKnobs
) -> None:
    """Pack both, one after the other, then multiply.

    A panel of the right side stays in L2 while all rows of the left pass by.
    """
    schedule_pack_rows(sch, stages["pack_rows"], stages)
    schedule_pack_columns(sch, stages["pack_columns"], stages)
    schedule_tile(sch, anchor, last, stages, knobs)
