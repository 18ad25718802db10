"""Schedule of depthwise convolution and pooling: a row of outputs in registers, the border told apart by loops.

The input is read in place. Its border conditions hold or fail for whole tiles except at the edges of the plane, so
the loops over tiles and rows are split there (``loop_partition``) and the middle carries no condition. Measured on
MobileNetV2's layers this runs at 85-95 % of the multiply-add peak; copying padded strips first reaches 60-70 %.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tvm import tirx
from tvm.s_tir.schedule import LoopRV

from ...knobs import KnobSet
from ...machine import Machine
from ..registry import Site, Template, register

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_UNROLLED_TAPS = 49
"""Of whole vectors. Others fall apart into scalars, of which LLVM gets too many: 19 channels of 3×3 take it 46 s
unrolled and 7 as a loop, and 335 and 89 µs to run (28 × 28, Zen 4)."""

MIN_TASKS = 4
"""Parallel tasks of a batch, for the threads of a small machine."""


@dataclass(frozen=True, kw_only=True)
class WindowLoops:
    """An operator as the window template sees it.

    ``height``, ``width`` and ``channels`` are those of the output, of which ``run`` in a row read neighbouring
    channels; ``kernel``, ``stride`` and ``dilation`` say what is read for each, of ``inputs`` values of an item.
    ``additions`` stand in place of the taps where these are compiled in.
    """

    batch: int
    height: int
    width: int
    channels: int
    run: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    inputs: int
    additions: float | None = None

    @property
    def taps(self) -> int:
        """Read for each output."""
        return self.kernel[0] * self.kernel[1]

    @property
    def threaded(self) -> int:
        """Channels that threads share on a GPU: those of the input where all its kernels are compiled into one."""
        return self.channels if self.additions is None else self.run

    def seen(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of the padded input under so many outputs."""
        height, width = (
            (extent - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
            for axis, extent in enumerate((rows, columns))
        )
        return height, width


class Windowed(Protocol):
    """A problem of an operator of the window template."""

    @property
    def window_loops(self) -> WindowLoops:
        """As the template sees it."""


@dataclass(frozen=True, kw_only=True)
class WindowKnobs(KnobSet):
    """Knobs of the window template.

    Attributes
    ----------
    lanes : int
        Channels in a vector.
    tile_w : int
        Neighbouring outputs of a row in a tile.
    rows : int
        Output rows of one parallel task.
    """

    lanes: int
    tile_w: int
    rows: int

    def round_up(self, height: int, width: int) -> tuple[int, int]:
        """Height and width rounded up to whole tasks and tiles."""
        return -(-height // self.rows) * self.rows, -(-width // self.tile_w) * self.tile_w

    @classmethod
    def space(cls, problem: Windowed, machine: Machine) -> Iterator[Self]:
        """Any number of rows, tiles that leave registers for the weights and inputs, the widest vectors that fit."""
        loops = problem.window_loops
        for rows, tile_w in itertools.product(range(1, loops.height + 1), _tiles(loops, machine, share=0.5)):
            yield cls(lanes=_lanes(loops, machine), tile_w=tile_w, rows=rows)

    @classmethod
    def default(cls, problem: Windowed, machine: Machine) -> Self:
        """The tile that wastes least, and the most rows that divide the plane into enough tasks.

        Rows that fill the last task up would be computed for nothing: 5×5 on a 14×14 plane takes 1.2 times as long in
        tasks of 4 rows as in tasks of 2 (Zen 4). A tile has its share of the registers, beside nine weights and the
        inputs under it: 7 outputs beat 14 by 1.5 times on 3×3 there.
        """
        loops = problem.window_loops
        tile_w = min(
            _tiles(loops, machine, machine.window_share),
            key=lambda tile: (-(-loops.width // tile) * (tile + 1), -tile),
        )
        tasks, height = max(1, MIN_TASKS // loops.batch), loops.height
        rows = max((r for r in range(1, height + 1) if height % r == 0 and height // r >= tasks), default=1)
        return cls(lanes=_lanes(loops, machine), tile_w=tile_w, rows=rows)

    def cycles(self, problem: Windowed, machine: Machine) -> float:
        """Of the whole batch."""
        loops = problem.window_loops
        columns = -(-loops.width // self.tile_w) * self.tile_w
        vectors = loops.batch * loops.height * columns * -(-loops.channels // machine.lanes)
        return machine.cycles(vectors * window_cost(loops, machine))


def window_cost(loops: WindowLoops, machine: Machine) -> float:
    """For each vector of outputs, in multiply-adds of one."""
    if loops.additions is not None:
        return machine.store_cost + loops.additions
    gathers = loops.run < loops.channels and loops.run % machine.lanes
    return (machine.tap_cost * loops.taps + machine.window_cost) * (machine.gather_cost if gathers else 1)


def _lanes(loops: WindowLoops, machine: Machine) -> int:
    return next((n for n in (16, 8, 4) if n <= machine.lanes and loops.channels % n == 0), machine.lanes)


def _tiles(loops: WindowLoops, machine: Machine, share: float) -> range:
    """Outputs of a tile, in at most this share of the registers."""
    return range(1, min(loops.width, int(machine.registers * share)) + 1)


def _schedule_window(site: Site) -> LoopRV:
    """Schedule the anchor, a reduction, at the tiles of the block that stores the result."""
    sch, knobs = site.sch, site.knobs(WindowKnobs)
    n, y, x, o = sch.get_loops(site.last)
    known_batch = isinstance(sch.get(n).extent, tirx.IntImm)
    task, row = sch.split(y, [None, knobs.rows])
    outermost = sch.fuse(n, task)
    sch.parallel(outermost)
    _fill_rows(site, (row, x, o), known_batch)
    return outermost


def _place_window(site: Site, _outermost: LoopRV) -> None:
    row, x, o = site.sch.get_loops(site.last)[-3:]
    _fill_rows(site, (row, x, o), True)


def _fill_rows(site: Site, loops: tuple[LoopRV, LoopRV, LoopRV], known_batch: bool) -> None:
    sch, anchor, knobs = site.sch, site.anchor, site.knobs(WindowKnobs)
    row, x, o = loops
    column, tile_x = sch.split(x, [None, knobs.tile_w])
    vector, lane = sch.split(o, [None, knobs.lanes])
    sch.reorder(row, vector, column, tile_x, lane)
    sch.vectorize(lane)
    sch.unroll(tile_x)
    sch.set_scope(anchor, 0, "local")
    sch.compute_at(anchor, column, preserve_unit_loops=True)
    *_, x, o, ry, rx = sch.get_loops(anchor)
    sch.reorder(ry, rx, x, o)
    sch.vectorize(o)
    taps = int(sch.get(ry).extent) * int(sch.get(rx).extent)
    is_whole = int(sch.get(anchor).iter_vars[3].dom.extent) % knobs.lanes == 0
    for loop in (x, rx, ry) if is_whole and taps <= MAX_UNROLLED_TAPS else (x,):
        sch.unroll(loop)
    sch.compute_inline(site.stages["window"])
    # Beside a symbolic batch, TVM narrows some of the loops to 32 bits and leaves others at 64; splitting then fails.
    for loop in (column, row) if known_batch else ():
        sch.annotate(loop, "pragma_loop_partition_hint", 1)
    sch.decompose_reduction(anchor, ry)


def _schedule_stencils(site: Site) -> None:
    """Schedule fixed stencils, which have no reduction, in parallel rows."""
    _fill_stencils(site)
    site.sch.parallel(site.sch.fuse(*site.sch.get_loops(site.anchor)[:2]))


def _fill_stencils(site: Site, _outermost: LoopRV | None = None) -> None:
    """Lay out the innermost three loops: all stencils of a vector of channels side by side, to share their sums."""
    sch, window, knobs = site.sch, site.stages["window"], site.knobs(WindowKnobs)
    row, x, o = sch.get_loops(site.anchor)[-3:]
    stencil, c = sch.split(o, [None, int(sch.get(window).iter_vars[-1].dom.extent)])
    vector, lane = sch.split(c, [None, knobs.lanes])
    column, tile_x = sch.split(x, [None, knobs.tile_w])
    sch.reorder(row, vector, column, tile_x, stencil, lane)
    sch.vectorize(lane)
    sch.unroll(tile_x)
    sch.unroll(stencil)
    sch.compute_inline(window)
    sch.annotate(column, "pragma_loop_partition_hint", 1)


register("llvm", ["depthwise_conv2d", "max_pool2d", "avg_pool2d"], Template(_schedule_window, _place_window))
register("llvm", ["fixed_stencils"], Template(_schedule_stencils, _fill_stencils))
