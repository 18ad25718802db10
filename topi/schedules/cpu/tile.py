"""The register tile: which part of a convolution's result stays in vector registers while its inputs stream by.

A tile is ``tile_h × tile_w`` pixels times ``vectors × lanes`` output channels. Each step of the reduction loads
``vectors`` weight vectors and broadcasts one input value per pixel, for ``tile_h · tile_w · vectors`` fused
multiply-adds. The tile is as large as the registers allow and wastes as little as possible where it does not divide
the output.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...knobs import KnobSet
from ...machine import Machine

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_PIXELS = 32
MAX_WORK = 2.0
"""Of several groups: multiply-adds that are executed, over those asked for; the rest fills vectors and tiles up."""

MAX_CHUNKS = 8
MIN_STRIPS = 4
"""Strips below which the weight panels are divided as well, for the threads of a small machine."""


@dataclass(frozen=True, kw_only=True)
class TileLoops:
    """An operator as the register tile sees it: all extents in elements.

    ``out_channels`` counts one group; ``strip_row_bytes`` is what one output row of padded input costs in cache.
    ``pixel_sums`` and ``vector_sums`` are the sums that a bitserial operator keeps for one pixel and one vector;
    ``panel_multiple`` divides a tile's output channels. The input channels fall into ``input_parts``, each of which as
    many of all output channels read. ``neighbours`` steps of the reduction read floats that lie side by side.
    """

    batch: int
    height: int
    width: int
    out_channels: int
    groups: int
    reduction: int
    strip_row_bytes: int
    weight_bytes: int
    pixel_sums: int = 1
    vector_sums: int = 1
    panel_multiple: int = 1
    neighbours: int = 1
    input_parts: int = 1


@dataclass(frozen=True)
class LoopsOnly:
    """Loops in place of the problem that they come from."""

    loops: TileLoops


@dataclass(frozen=True, kw_only=True)
class TileKnobs(KnobSet):
    """Knobs of the register-tile template; what it computes says of itself what its ``loops`` are.

    Attributes
    ----------
    lanes, vectors : int
        float32 lanes of a vector; vectors of output channels in a tile.
    tile_h, tile_w : int
        Output pixels in a tile.
    strip : int
        Tile rows that share one copy of the padded input.
    chunks : int
        Parts that the weight panels are divided into, for parallelism where there are few strips.
    """

    lanes: int
    vectors: int
    tile_h: int
    tile_w: int
    strip: int
    chunks: int

    @property
    def panel(self) -> int:
        """Output channels in a tile, which is also the width of a packed weight panel."""
        return self.lanes * self.vectors

    def round_up(self, height: int, width: int) -> tuple[int, int]:
        """Height and width rounded up to whole strips and tiles."""
        rows = self.tile_h * self.strip
        return -(-height // rows) * rows, -(-width // self.tile_w) * self.tile_w

    @classmethod
    def tiles(cls, problem: Any, machine: Machine) -> Iterator[Self]:
        """Every tile that fits the registers, each in the default strips and chunks."""
        for lanes, vectors, tile_h, tile_w in feasible_tiles(problem.loops, machine):
            tile = cls._around(problem, machine, lanes=lanes, vectors=vectors, tile_h=tile_h, tile_w=tile_w)
            if problem.loops.groups == 1 or tile.work(problem.loops) <= MAX_WORK:
                yield tile

    @classmethod
    def space(cls, problem: Any, machine: Machine) -> Iterator[Self]:
        """Every tile that fits the registers, in every division of the rows and panels."""
        for tile in cls.tiles(problem, machine):
            yield from tile.divisions(problem.loops)

    @classmethod
    def default(cls, problem: Any, machine: Machine) -> Self | None:
        """Of equals, the largest tile."""

        def cost(knobs: Self) -> tuple[float, int]:
            return knobs.cycles(problem, machine), -knobs.tile_h * knobs.tile_w * knobs.vectors

        return min(cls.tiles(problem, machine), key=cost, default=None)

    def cycles(self, problem: Any, machine: Machine) -> float:
        """Of all groups and the whole batch."""
        loops = problem.loops
        return loops.batch * loops.groups * machine.cycles(self.cost(loops, machine))

    def cost(self, loops: TileLoops, machine: Machine) -> float:
        """Of one batch item and one group, in multiply-adds of whole vectors."""
        pixels, vectors = self.tile_h * self.tile_w * loops.pixel_sums, self.vectors * loops.vector_sums
        vector = machine.vector_cost(self.lanes)
        loads = pixels / self._pack(loops, machine) + vectors
        step = vector * max(pixels * vectors, machine.sums_in_flight) + machine.load_cost * loads
        tiles = -(-loops.height // self.tile_h) * -(-loops.width // self.tile_w)
        panels = -(-loops.out_channels // self.panel)
        if tiles > 1 and loops.reduction * self._step_bytes(loops) > machine.l1_bytes:
            step = max(step, machine.fma_per_cycle * self._step_bytes(loops) / machine.l2_bandwidth)
        epilogue = machine.store_cost * vector * pixels * vectors
        return tiles * panels * (step * loops.reduction + epilogue)

    def _pack(self, loops: TileLoops, machine: Machine) -> int:
        """Inputs of a pixel that one load brings."""
        return machine.lanes if machine.packs_inputs and loops.neighbours % machine.lanes == 0 else 1

    def _step_bytes(self, loops: TileLoops) -> int:
        """Weights of one step, which every tile reads again, from L2 where the panel is larger than L1."""
        return 4 * self.panel * loops.vector_sums

    def divisions(self, loops: TileLoops) -> Iterator[Self]:
        """The same tile in every division of the rows and panels."""
        rows, panels = -(-loops.height // self.tile_h), _panels(loops, self.panel)
        for strip in range(1, rows + 1):
            for chunks in (n for n in range(1, MAX_CHUNKS + 1) if panels % n == 0):
                yield dataclasses.replace(self, strip=strip, chunks=chunks)

    def work(self, loops: TileLoops) -> float:
        """Multiply-adds that are executed, over those asked for."""
        rows, columns = self.round_up(loops.height, loops.width)
        outputs = -(-loops.out_channels // self.panel) * self.panel
        return rows * columns * outputs / (loops.height * loops.width * loops.out_channels)

    @classmethod
    def _around(cls, problem: Any, machine: Machine, **tile: int) -> Self:
        """``tile`` in the default strips and chunks.

        Chunks of several groups copy what they read of the input, and no more: 32 groups of 16 on a 14×14 plane take
        half the time (Zen 4), since pixels of 512 channels lie 2 KiB apart, which few ways of L1 hold.
        """
        loops, tile_h, panel = problem.loops, tile["tile_h"], tile["lanes"] * tile["vectors"]
        panels = _panels(loops, panel)
        parts = [d for d in range(1, MAX_CHUNKS + 1) if panels % d == 0]
        if loops.input_parts > 1 and _splits_input(loops, panel):
            chunks = next((d for d in parts if d >= MIN_STRIPS), parts[-1])
            return cls(**tile, strip=_strip(loops, tile_h, machine, chunks), chunks=chunks)
        strip = _strip(loops, tile_h, machine)
        strips = loops.batch * -(-loops.height // (tile_h * strip))
        return cls(**tile, strip=strip, chunks=1 if strips >= MIN_STRIPS else parts[-1])


def feasible_tiles(loops: TileLoops, machine: Machine) -> Iterator[tuple[int, int, int, int]]:
    """Lanes, vectors, height and width of every tile whose accumulators and operands fit the registers.

    Where none does, one pixel times as few channels as are allowed.
    """
    for lanes, vectors in itertools.product(_lanes(loops, machine), range(1, machine.registers - 2)):
        panel = lanes * vectors
        if panel % loops.panel_multiple or (loops.groups > 1 and loops.out_channels % panel):
            continue
        for tile_h in range(1, min(loops.height, MAX_PIXELS) + 1):
            for tile_w in range(1, min(loops.width, MAX_PIXELS) + 1):
                smallest = panel == loops.panel_multiple and tile_h == tile_w == 1
                fits = _fits(machine, vectors * loops.vector_sums, tile_h * tile_w * loops.pixel_sums)
                if fits or smallest:
                    yield lanes, vectors, tile_h, tile_w


def _lanes(loops: TileLoops, machine: Machine) -> list[int]:
    """Whole vectors, and half ones where those cost less: 24 channels are three halves, but two whole vectors."""
    whole = min(machine.lanes, max(loops.panel_multiple, 1 << (loops.out_channels - 1).bit_length()))
    return [whole, whole // 2] if machine.half_vector_cost < 1 and whole == machine.lanes else [whole]


def _fits(machine: Machine, vectors: int, pixels: int) -> bool:
    """Accumulators, one weight vector each, and a register for the broadcast or to spare."""
    return pixels <= MAX_PIXELS and pixels * vectors + vectors + 1 <= machine.registers


def _panels(loops: TileLoops, panel: int) -> int:
    return loops.groups * -(-loops.out_channels // panel)


def _splits_input(loops: TileLoops, panel: int) -> bool:
    """Whether panels end where parts of the input do, so that no two chunks copy the same channels."""
    outputs = loops.out_channels * loops.groups // loops.input_parts
    return loops.out_channels % panel == 0 and (panel % outputs == 0 or outputs % panel == 0)


def _strip(loops: TileLoops, tile_h: int, machine: Machine, chunks: int = 1) -> int:
    """Weights that stay in L2 are read again by every strip; larger ones once, with the plane as one strip."""
    tile_rows, strips = -(-loops.height // tile_h), -(-MIN_STRIPS // chunks)
    if loops.weight_bytes > machine.resident_bytes:
        return tile_rows
    most = max(1, machine.strip_bytes // max(1, loops.strip_row_bytes // chunks * tile_h))
    if loops.batch * tile_rows >= strips:
        most = min(most, max(1, loops.batch * tile_rows // strips))
    candidates = range(1, min(most, tile_rows) + 1)
    return min(candidates, key=lambda rows: (-(-tile_rows // rows) * rows - tile_rows, -rows))
