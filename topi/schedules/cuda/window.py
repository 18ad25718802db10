"""Schedule of whatever slides a window over one channel: neighbouring threads take neighbouring vectors of channels.

A thread makes a few neighbouring pixels of one vector. It loads the row of inputs under them into registers, zeros for
what lies beyond the border, and uses each for all the pixels that see it. Inputs under two tiles come from L1: a block
is a patch of the plane, a few vectors of channels deep, so that a warp reads whole lines of 128 bytes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ...gpu import WARP, Gpu
from ...knobs import KnobSet
from ..cpu.window import Windowed, WindowLoops
from ..registry import Site, Template, register

if TYPE_CHECKING:
    from typing_extensions import Self

MIN_THREADS, MAX_THREADS = 64, 256
"""Of a block: two or more of them share a multiprocessor."""

PATCHES = (1, 2, 4, 8, 16)
"""Tiles of a block along an axis of the plane."""

TILES = ((1, 1), (1, 2), (1, 3), (1, 4), (1, 7), (1, 8), (2, 1), (2, 2), (2, 4), (4, 2))
"""Outputs of a thread, rows and columns."""

MAX_UNROLLED_TAPS = 49
MAX_HELD = 24
"""Vectors of inputs under a row of outputs that a thread holds in registers; more are read where they are used."""

LATENCY, STEP = 800, 4
"""Cycles from a load to its use, and from one instruction of a warp to its next."""

FIXED, EACH_LOAD, EACH_STORE = 60, 4, 6
"""Instructions of a thread beside its sums: to find its place, for each vector that it loads, for each it stores."""


@dataclass(frozen=True, kw_only=True)
class GpuWindowKnobs(KnobSet):
    """Knobs of the window template of GPUs.

    Attributes
    ----------
    lanes : int
        Channels in a vector.
    tile_h, tile_w : int
        Neighbouring outputs of a thread.
    patch_h, patch_w : int
        Tiles of a block along each axis.
    vectors : int
        Vectors of channels of a block.
    """

    lanes: int
    tile_h: int
    tile_w: int
    patch_h: int
    patch_w: int
    vectors: int

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.patch_h * self.patch_w * self.vectors

    @property
    def block_size(self) -> tuple[int, int]:
        """Rows and columns of outputs of a block."""
        return self.tile_h * self.patch_h, self.tile_w * self.patch_w

    def round_up(self, height: int, width: int) -> tuple[int, int]:
        """Height and width rounded up to whole blocks."""
        rows, columns = self.block_size
        return -(-height // rows) * rows, -(-width // columns) * columns

    @classmethod
    def space(cls, problem: Windowed, machine: Gpu) -> Iterator[Self]:
        """Every tile no larger than the plane, in every patch that fills a block or covers the plane."""
        loops = problem.window_loops
        lanes = lanes_of(loops, machine)
        for vectors, (tile_h, tile_w) in itertools.product(_depths(-(-loops.threaded // lanes)), TILES):
            if tile_h > loops.height or tile_w > loops.width:
                continue
            patches_h, patches_w = _patches(loops.height, tile_h), _patches(loops.width, tile_w)
            largest = min(MAX_THREADS, patches_h[-1] * patches_w[-1] * vectors)
            for patch_h, patch_w in itertools.product(patches_h, patches_w):
                if min(MIN_THREADS, largest) <= patch_h * patch_w * vectors <= MAX_THREADS:
                    yield cls(
                        lanes=lanes, tile_h=tile_h, tile_w=tile_w, patch_h=patch_h, patch_w=patch_w, vectors=vectors
                    )  # fmt: skip

    @classmethod
    def default(cls, problem: Windowed, machine: Gpu) -> Self:
        """Of equals, the one whose blocks are patches closest to a square."""

        def cost(knobs: Self) -> tuple[float, int, int]:
            return knobs.cycles(problem, machine), sum(knobs.block_size), -knobs.threads

        return min(cls.space(problem, machine), key=cost)

    def cycles(self, problem: Windowed, machine: Gpu) -> float:
        """Of the whole batch, all multiprocessors together."""
        loops = problem.window_loops
        (rows, columns), pixels = self.round_up(loops.height, loops.width), self.tile_h * self.tile_w
        depth = -(-loops.threaded // (self.lanes * self.vectors))
        blocks = loops.batch * depth * rows * columns // (pixels * self.patch_h * self.patch_w)
        copies = loops.channels // loops.threaded
        rows_read = min(self.tile_h * loops.kernel[0], loops.seen(self.tile_h, 1)[0])
        loads = rows_read * loops.seen(1, self.tile_w)[1]
        sums = copies * (loops.taps if loops.additions is None else loops.additions)
        work = FIXED + EACH_LOAD * loads + pixels * (self.lanes * sums + copies * EACH_STORE) + loops.taps
        issued = (
            -(-blocks // machine.multiprocessors) * -(-self.threads // WARP) * work * WARP / machine.fma_lanes
        )
        stored = 4 * loops.batch * loops.height * loops.width * loops.channels
        read = 4 * loops.batch * loops.inputs
        under = loops.seen(*self.block_size)
        cached = 4 * blocks * under[0] * under[1] * min(self.lanes * self.vectors, loops.threaded) + stored
        far = (read + stored) * (read + stored > machine.l2_bytes // 2)
        transfers = cached / machine.cache_bytes_per_cycle, far / machine.device_bytes_per_cycle
        return machine.launch_cycles + LATENCY + STEP * work + math.hypot(issued, *transfers)


def lanes_of(loops: WindowLoops, machine: Gpu) -> int:
    """Channels in a vector: the most that divide them, where neighbours read neighbours."""
    return next(n for n in (machine.lanes, 2, 1) if n == 1 or loops.run % n == 0)


def _depths(vectors: int) -> list[int]:
    """Vectors of channels of a block: divisors that fill lines, else all of them, else a warp."""
    divisors = [n for n in range(1, min(vectors, MAX_THREADS) + 1) if vectors % n == 0]
    return [n for n in divisors if 8 <= n <= 64] or divisors[-1:]


def _patches(extent: int, tile: int) -> list[int]:
    """Tiles of a block along an axis of ``extent`` outputs: as many as cover it, or fewer."""
    needed = -(-extent // tile)
    return [n for n in PATCHES if n < needed] + [min(needed, PATCHES[-1])] * (needed <= PATCHES[-1])


def _schedule_window(site: Site) -> None:
    """Schedule the anchor, a reduction, in registers of the thread that stores its result."""
    sch, anchor, knobs = site.sch, site.anchor, site.knobs(GpuWindowKnobs)
    loops = split_window(sch, sch.get_loops(site.last), knobs)
    sch.set_scope(anchor, 0, "local")
    sch.compute_at(anchor, loops.threads[-1], preserve_unit_loops=True)
    sums = fill_registers(sch, anchor, site.stages["window"], knobs.lanes)
    loops.bind(sch)
    sch.decompose_reduction(anchor, sums)


def _schedule_stencils(site: Site) -> None:
    """Schedule fixed stencils, which have no reduction: a thread applies all of them to its inputs."""
    sch, anchor, window, knobs = site.sch, site.anchor, site.stages["window"], site.knobs(GpuWindowKnobs)
    sch.reverse_compute_inline(site.last)
    n, y, x, stencil, channel = sch.get_loops(anchor)
    sch.reorder(n, y, x, channel, stencil)
    loops = split_window(sch, [n, y, x, channel], knobs)
    *_, lane, stencil = sch.get_loops(anchor)
    sch.reorder(stencil, lane)
    sch.unroll(stencil)
    sch.compute_at(window, loops.threads[-1], preserve_unit_loops=True)
    if not hold_window(sch, window, knobs.lanes):
        sch.compute_inline(window)
    loops.bind(sch)


@dataclass(frozen=True)
class WindowNest:
    """Loops of a window template: over blocks, over the threads of one, over the outputs of one."""

    blocks: list[LoopRV]
    threads: list[LoopRV]
    tile: list[LoopRV]

    def bind(self, sch: Schedule) -> None:
        """To the device. What is placed under them comes first: it is harder to see what fused loops need."""
        sch.bind(sch.fuse(*self.blocks), "blockIdx.x")
        sch.bind(sch.fuse(*self.threads), "threadIdx.x")
        for loop in self.tile:
            sch.unroll(loop)


def split_window(sch: Schedule, loops: list[LoopRV], knobs: GpuWindowKnobs) -> WindowNest:
    """Split and order ``loops``, over ..., y, x and channels."""
    *lead, y, x, channels = loops
    patches_y, patch_y, tile_y = sch.split(y, [None, knobs.patch_h, knobs.tile_h])
    patches_x, patch_x, tile_x = sch.split(x, [None, knobs.patch_w, knobs.tile_w])
    depth, vector, lane = sch.split(channels, [None, knobs.vectors, knobs.lanes])
    blocks, threads, tile = [*lead, patches_y, patches_x, depth], [patch_y, patch_x, vector], [tile_y, tile_x]
    sch.reorder(*blocks, *threads, *tile, lane)
    sch.vectorize(lane)
    return WindowNest(blocks, threads, tile)


def fill_registers(sch: Schedule, anchor: SBlockRV, window: SBlockRV, lanes: int) -> LoopRV:
    """Lay out the sums of a thread, which stand at their place, and what they read; returns their outermost loop.

    Inputs under one row of outputs are loaded for each row of the kernel; under several, which share them, all at once.
    """
    *_, around, y, x, o, ry, rx = sch.get_loops(anchor)
    sch.reorder(ry, rx, y, x, o)
    sch.vectorize(o)
    several, rows, columns = (int(sch.get(loop).extent) for loop in (y, ry, rx))
    unrolled = rows * columns <= MAX_UNROLLED_TAPS
    for place in (around, ry) if several > 1 and unrolled else (ry,):
        sch.compute_at(window, place, preserve_unit_loops=True)
        if held := hold_window(sch, window, lanes):
            break
    if not held:
        sch.compute_inline(window)
    for loop in (ry,) * unrolled + (rx,) * (held or columns <= MAX_HELD) + (y, x):
        sch.unroll(loop)
    return ry


def hold_window(sch: Schedule, window: SBlockRV, lanes: int) -> bool:
    """Keep ``window``, which stands at its place, in registers if it fits them."""
    row, column, channel = sch.get_loops(window)[-3:]
    held = int(sch.get(row).extent) * int(sch.get(column).extent)
    if held > MAX_HELD or int(sch.get(channel).extent) != lanes:
        return False
    sch.set_scope(window, 0, "local")
    sch.vectorize(channel)
    sch.unroll(row)
    sch.unroll(column)
    return True


register("cuda", ["depthwise_conv2d", "max_pool2d", "avg_pool2d"], Template(_schedule_window))
register("cuda", ["fixed_stencils"], Template(_schedule_stencils))
