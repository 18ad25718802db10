"""The schedule of last resort: whatever is not one of our operators, vectorised and parallel.

Element-wise nests run their last axis in vectors. Reductions keep their sums in registers: over vectors of the last
spatial axis where that is contiguous in memory, else over vectors of partial sums along the reduced axis.
"""

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ..machine import Machine
from .loops import is_reduction, top_blocks, vectorize_innermost, volume

MIN_PARALLEL_WORK = 16 * 1024
"""Block executions below which waking a second thread costs more than it saves (about 5 µs)."""


def schedule_generic(sch: Schedule, machine: Machine) -> None:
    """Schedule every top-level block of the function that no template has touched."""
    for block in top_blocks(sch):
        if not all(sch.get(loop).kind == tirx.ForKind.SERIAL for loop in sch.get_loops(block)):
            continue
        if is_reduction(sch, block):
            _schedule_reduction(sch, block, machine)
        else:
            _schedule_elementwise(sch, block, machine)


def _schedule_elementwise(sch: Schedule, block: SBlockRV, machine: Machine) -> None:
    vectorize_innermost(sch, block, machine.lanes)
    _parallelize(sch, block, sch.get_loops(block)[:-1])


def _parallelize(sch: Schedule, block: SBlockRV, loops: list[LoopRV]) -> None:
    symbolic, known = volume(sch, block)
    if loops and (symbolic or known >= MIN_PARALLEL_WORK):
        sch.parallel(sch.fuse(*loops))


def _schedule_reduction(sch: Schedule, block: SBlockRV, machine: Machine) -> None:
    kinds = [var.iter_type for var in sch.get(block).iter_vars]
    loops = sch.get_loops(block)
    if len(loops) != len(kinds):
        return
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != tirx.IterVar.CommReduce]
    reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.CommReduce]
    lanes = _lanes_of(sch, spatial[-1], machine) if spatial else 1
    if lanes > 1 and _walks_memory(sch, block, kinds):
        outer, lane = sch.split(spatial[-1], [None, lanes])
        sch.reorder(*spatial[:-1], outer, *reduced, lane)
        store = sch.cache_write(block, 0, "local")
        sch.reverse_compute_at(store, outer)
        sch.vectorize(sch.get_loops(store)[-1])
        sch.vectorize(lane)
        _parallelize(sch, block, [*spatial[:-1], outer])
        sch.decompose_reduction(block, reduced[0])
        return
    lanes = _lanes_of(sch, reduced[-1], machine)
    if lanes > 1:
        _, lane = sch.split(reduced[-1], [None, lanes])
        partial = sch.rfactor(lane, len(spatial))
        rows = sch.get_loops(partial)
        sch.vectorize(rows[-1])


def _lanes_of(sch: Schedule, loop: LoopRV, machine: Machine) -> int:
    """The widest vector that divides the extent of ``loop``; 1 where there is none."""
    extent = sch.get(loop).extent
    if not isinstance(extent, tirx.IntImm):
        return 1
    return next((n for n in (16, 8, 4) if n <= machine.lanes and int(extent) % n == 0), 1)


def _walks_memory(sch: Schedule, block: SBlockRV, kinds: list[int]) -> bool:
    """Whether neighbouring values of the last spatial axis are neighbours in some input."""
    variables = [var.var for var in sch.get(block).iter_vars]
    last = [var for var, kind in zip(variables, kinds, strict=True) if kind != tirx.IterVar.CommReduce][-1]
    return any(region.region[-1].min.same_as(last) for region in sch.get(block).reads)
