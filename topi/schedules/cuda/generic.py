"""The schedule of last resort on a GPU: one thread for each few neighbouring results.

An element-wise nest becomes one grid, its threads storing vectors where the last axis allows it. A reduction keeps its
sum in a register of the thread that stores it; one whose results are too few to fill the device is summed by the
threads of a warp or a block together.
"""

import logging
import math

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ...machine import Machine
from ..loops import is_reduction, top_blocks
from ..registry import register_generic

THREADS = 256
"""Of a block that is none of a template's."""

FEW_RESULTS = 8192
"""Results below which the threads of a warp share the sums."""

LONG = 64
"""Terms from which on sharing them pays."""

log = logging.getLogger(__name__)


def schedule_generic(sch: Schedule, machine: Machine) -> None:
    """Bind every top-level block of the function that no template has touched to blocks and threads."""
    for block in top_blocks(sch):
        if _is_bound(sch, block):
            continue
        if not sch.get_loops(block):
            sch.add_unit_loop(block)
        if is_reduction(sch, block):
            _bind_reduction(sch, block)
        else:
            _bind_elementwise(sch, block, machine)


def bind_flat(sch: Schedule, loops: list[LoopRV], threads: int = THREADS) -> None:
    """Bind ``loops``, fused, to blocks of ``threads`` threads."""
    fused = sch.fuse(*loops) if len(loops) > 1 else loops[0]
    grid, thread = sch.split(fused, [None, threads])
    sch.bind(grid, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")


def _is_bound(sch: Schedule, block: SBlockRV) -> bool:
    return any(sch.get(loop).kind == tirx.ForKind.THREAD_BINDING for loop in sch.get_loops(block))


def _bind_elementwise(sch: Schedule, block: SBlockRV, machine: Machine) -> None:
    *outer, last = sch.get_loops(block)
    extent = sch.get(last).extent
    lanes = math.gcd(int(extent), machine.lanes) if isinstance(extent, tirx.IntImm) else 1
    if lanes == 1 or not is_plain(sch, block):
        bind_flat(sch, [*outer, last])
        return
    vectors, lane = sch.split(last, [None, lanes])
    bind_flat(sch, [*outer, vectors])
    sch.vectorize(lane)


def is_plain(sch: Schedule, block: SBlockRV) -> bool:
    """Whether the block stores float32 or int32 that it computes of such: other types have no vectors on a GPU."""
    written, *others = sch.get(block).writes
    dtypes = {str(region.source.dtype) for region in (written, *sch.get(block).reads)}
    return not others and dtypes <= {"float32", "int32", "uint32"}


def _bind_reduction(sch: Schedule, block: SBlockRV) -> None:
    kinds = [var.iter_type for var in sch.get(block).iter_vars]
    loops = sch.get_loops(block)
    if len(loops) != len(kinds):
        log.info("%s keeps a plain loop nest", sch.get(block).name_hint)
        bind_flat(sch, [sch.add_unit_loop(loops[0])], 1)
        return
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != tirx.IterVar.CommReduce]
    reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.CommReduce]
    terms = math.prod(_known(sch, loop) for loop in reduced)
    results = math.prod(_known(sch, loop) for loop in spatial)
    if not spatial:
        spatial = [sch.add_unit_loop(reduced[0])]
    sch.reorder(*spatial, *reduced)
    if terms >= LONG and results <= FEW_RESULTS and all(_is_known(sch, loop) for loop in reduced):
        _share_sums(sch, spatial, reduced)
        return
    bind_flat(sch, spatial)


def _share_sums(sch: Schedule, spatial: list[LoopRV], reduced: list[LoopRV]) -> None:
    """The lanes of a warp sum every 32nd term each, and then together."""
    outer = sch.fuse(*spatial) if len(spatial) > 1 else spatial[0]
    terms = sch.fuse(*reduced) if len(reduced) > 1 else reduced[0]
    # TVM forgets the predicate of a tail where threads sum together.
    grid, row = sch.split(outer, [None, math.gcd(_known(sch, outer), 4)])
    _, lane = sch.split(terms, [None, 32])
    sch.bind(grid, "blockIdx.x")
    sch.bind(row, "threadIdx.y")
    sch.bind(lane, "threadIdx.x")


def _is_known(sch: Schedule, loop: LoopRV) -> bool:
    return isinstance(sch.get(loop).extent, tirx.IntImm)


def _known(sch: Schedule, loop: LoopRV) -> int:
    extent = sch.get(loop).extent
    return int(extent) if isinstance(extent, tirx.IntImm) else 1


register_generic("cuda", schedule_generic)
