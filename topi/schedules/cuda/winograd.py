"""Winograd's algorithm on a GPU: a kernel for each transform, and the products of all frequencies between them.

A thread transforms a whole tile of one vector of channels, in registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ..registry import Site, Template, register
from .gemm import tile_products
from .gemm_knobs import BLOCK_LATENCY, GemmKnobs, HasGemmLoops

if TYPE_CHECKING:
    from typing_extensions import Self

    from ...gpu import Gpu

TRANSFORM_THREADS = 128
"""Of a block: each holds some sixty values."""


@dataclass(frozen=True, kw_only=True)
class WinogradGemmKnobs(GemmKnobs):
    """Knobs of the products between the transforms; their sums are not sliced."""

    @classmethod
    def space(cls, problem: HasGemmLoops, machine: Gpu) -> Iterator[Self]:
        """Every tile that fits a block."""
        yield from (knobs for knobs in super().space(problem, machine) if knobs.slices == 1)

    def cycles(self, problem: HasGemmLoops, machine: Gpu) -> float:
        """Of the products, and of writing and reading what is transformed."""
        loops = problem.gemm_loops
        assert loops is not None, "only products have knobs"
        moved = loops.input_bytes + 4 * loops.batch * loops.rows * loops.columns
        transforms = machine.passing_cycles(moved) + 2 * (machine.launch_cycles + BLOCK_LATENCY)
        return super().cycles(problem, machine) + transforms


def _schedule_winograd(site: Site) -> None:
    sch, stages = site.sch, site.stages
    tile_products(site, site.knobs(WinogradGemmKnobs), stores=True)
    frequencies, (_, _, *tiles) = 2, sch.get_loops(stages["data_rows"])
    sch.reorder(*tiles, *sch.get_loops(stages["data_rows"])[:frequencies])
    thread = _thread(sch, tiles)
    _fill(sch, stages["data_rows"], [stages["data_columns"]], thread)
    pixels = sch.cache_read(stages["data_columns"], 0, "local")
    sch.compute_at(pixels, thread, preserve_unit_loops=True)
    sch.compute_inline(stages["window"])
    _unroll_under(sch, pixels, thread)
    _schedule_output(site)


def _schedule_output(site: Site) -> None:
    """The last transform, with the epilogues, for the pixels of one tile and one channel a thread."""
    sch, last, back = site.sch, site.last, site.stages["output_columns"]
    side = int(sch.get(back).iter_vars[0].dom.extent)
    image, y, x, channel = sch.get_loops(last)
    (row, down), (column, right) = (sch.split(loop, [None, side]) for loop in (y, x))
    sch.reorder(image, row, column, channel, down, right)
    thread = _thread(sch, [image, row, column, channel])
    _fill(sch, last, [back], thread)
    sums = sch.cache_read(back, 0, "local")
    sch.compute_at(sums, thread, preserve_unit_loops=True)
    _unroll_under(sch, sums, thread)


def _thread(sch: Schedule, loops: list[LoopRV]) -> LoopRV:
    """One thread for each step of ``loops``; returns the loop that stands for it."""
    grid, thread = sch.split(sch.fuse(*loops), [None, TRANSFORM_THREADS])
    sch.bind(grid, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    return thread


def _fill(sch: Schedule, block: SBlockRV, sources: list[SBlockRV], thread: LoopRV) -> None:
    """Compute ``sources`` in the registers of the thread that ``block`` reads them in."""
    for source in sources:
        sch.compute_at(source, thread, preserve_unit_loops=True)
        sch.set_scope(source, 0, "local")
        _unroll_under(sch, source, thread)
    _unroll_under(sch, block, thread)


def _unroll_under(sch: Schedule, block: SBlockRV, thread: LoopRV) -> None:
    depth = len(sch.get_loops(block)) - 1
    bound = {
        str(sch.get(loop).loop_var)
        for loop in sch.get_loops(block)
        if sch.get(loop).thread_binding is not None
    }
    for loop in sch.get_loops(block)[-depth:]:
        if str(sch.get(loop).loop_var) not in bound:
            sch.unroll(loop)


register("cuda", ["winograd_conv2d"], Template(_schedule_winograd))
