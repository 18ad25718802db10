"""The schedule of last resort: whatever is not one of our operators, vectorised and parallel.

Element-wise nests run their last axis in vectors, a concatenation part by part; a transpose is cut into tiles that fit
L1. Reductions keep their sums in registers: over vectors of the last spatial axis where that is contiguous in memory,
else over vectors of partial sums along the reduced axis. A block that a transformation refuses (dynamic bounds, several
results) stays as it is from there on: every step alone preserves what the function computes.
"""

import logging
import math

import tvm
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import Schedule, ScheduleError
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ...machine import Machine
from ..loops import is_reduction, top_blocks, vectorize_innermost, volume
from ..registry import register_generic
from .seams import cut_at_seams, seams_of

MIN_TASKS = 16
"""Parallel tasks of a nest: enough for the threads of a small machine to finish together."""

TRANSPOSE_TILE = 16
"""A tile of 16 × 16 float32 values reads and writes whole cache lines."""

log = logging.getLogger(__name__)


def schedule_generic(sch: Schedule, machine: Machine) -> None:
    """Schedule every top-level block of the function that no template has touched."""
    for block in top_blocks(sch):
        loops = sch.get_loops(block)
        if not loops or any(sch.get(loop).kind != tirx.ForKind.SERIAL for loop in loops):
            continue
        try:
            if is_reduction(sch, block):
                _schedule_reduction(sch, block, machine)
            else:
                _schedule_elementwise(sch, block, machine)
        except ScheduleError as error:
            first_line = str(error).strip().splitlines()[-1]
            log.info("%s keeps a plain loop nest: %s", sch.get(block).name_hint, first_line)


def _schedule_elementwise(sch: Schedule, block: SBlockRV, machine: Machine) -> None:
    transposed = _transposed_axis(sch, block)
    if transposed is not None:
        _parallelize(sch, block, _tile_transpose(sch, block, transposed), machine)
        return
    if _copies_bits(sch, block):
        _parallelize(sch, block, sch.get_loops(block)[:-1], machine)
        return
    seams = seams_of(sch, block)
    vectors = vectorize_innermost(sch, block, math.gcd(machine.lanes, *seams))
    *outer, row = sch.get_loops(block)
    if not seams:
        _parallelize(sch, block, outer, machine)
        return
    if vectors is not None:
        *outer, row = outer
    _parallelize(sch, block, outer, machine)
    cut_at_seams(sch, block, row, seams)


def _copies_bits(sch: Schedule, block: SBlockRV) -> bool:
    """Whether the block copies truths, or pads them: TVM's lowering makes no right vectors of that."""
    store = sch.get(block).body
    copied = isinstance(store, tirx.BufferStore) and isinstance(store.value, TensorLoad | tvm.ir.Call)
    return copied and store.value.ty.dtype == "bool"


def _transposed_axis(sch: Schedule, block: SBlockRV) -> int | None:
    """Which axis walks through the input's memory, where that is not the last, which walks through the output's."""
    variables = [var.var for var in sch.get(block).iter_vars]
    reads, loops = sch.get(block).reads, sch.get_loops(block)
    if len(reads) != 1 or len(loops) != len(variables) or len(loops) < 2:
        return None
    walks = [i for i, var in enumerate(variables) if _is_innermost(var, reads[0])]
    return walks[0] if walks and walks[0] != len(loops) - 1 else None


def _tile_transpose(sch: Schedule, block: SBlockRV, axis: int) -> list[LoopRV]:
    loops = sch.get_loops(block)
    others = [*loops[:axis], *loops[axis + 1 : -1]]
    rows = sch.split(loops[axis], [None, TRANSPOSE_TILE])
    columns = sch.split(loops[-1], [None, TRANSPOSE_TILE])
    sch.reorder(*others, rows[0], columns[0], rows[1], columns[1])
    return [*others, rows[0]]


def _parallelize(sch: Schedule, block: SBlockRV, loops: list[LoopRV], machine: Machine) -> None:
    """Make tasks of as many outer loops as it takes; what is left inside stays free of index divisions.

    A block is executed in about a cycle: few of them cost less than waking a thread.
    """
    symbolic, known = volume(sch, block)
    if not loops or not (symbolic or known >= machine.wake_cycles):
        return
    tasks, outer = 1, []
    for loop in loops:
        outer.append(loop)
        extent = sch.get(loop).extent
        tasks *= int(extent) if isinstance(extent, tirx.IntImm) else MIN_TASKS
        if tasks >= MIN_TASKS:
            break
    sch.parallel(sch.fuse(*outer))


def _schedule_reduction(sch: Schedule, block: SBlockRV, machine: Machine) -> None:
    kinds = [var.iter_type for var in sch.get(block).iter_vars]
    loops = sch.get_loops(block)
    if len(loops) != len(kinds):
        return
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != tirx.IterVar.CommReduce]
    reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.CommReduce]
    lanes = _lanes_of(sch, spatial[-1], machine) if spatial and _walks_memory(sch, block, kinds) else 1
    if lanes > 1:
        _sum_in_vectors(sch, block, spatial, reduced, lanes, machine)
        return
    lanes = _lanes_of(sch, reduced[-1], machine)
    if lanes > 1:
        _, lane = sch.split(reduced[-1], [None, lanes])
        partial = sch.rfactor(lane, len(spatial))
        sch.vectorize(sch.get_loops(partial)[-1])


def _sum_in_vectors(
    sch: Schedule,
    block: SBlockRV,
    spatial: list[LoopRV],
    reduced: list[LoopRV],
    lanes: int,
    machine: Machine,
) -> None:
    outer, lane = sch.split(spatial[-1], [None, lanes])
    sch.reorder(*spatial[:-1], outer, *reduced, lane)
    store = sch.cache_write(block, 0, "local")
    sch.reverse_compute_at(store, outer)
    sch.vectorize(sch.get_loops(store)[-1])
    sch.vectorize(lane)
    _parallelize(sch, block, [*spatial[:-1], outer], machine)
    sch.decompose_reduction(block, reduced[0])


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
    return any(_is_innermost(last, read) for read in sch.get(block).reads)


def _is_innermost(variable: tirx.Var, read: tirx.BufferRegion) -> bool:
    """Whether ``variable`` is the last index of what is read; a scalar has none."""
    return bool(len(read.region)) and variable.same_as(read.region[-1].min)


register_generic("llvm", schedule_generic)
