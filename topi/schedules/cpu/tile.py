"""The register tile: which part of a convolution's result stays in vector registers while its inputs stream by.

A tile is ``tile_h × tile_w`` pixels times ``vectors × lanes`` output channels. Each step of the reduction loads
``vectors`` weight vectors and broadcasts one input value per pixel, for ``tile_h · tile_w · vectors`` fused
multiply-adds. The tile is as large as the registers allow and wastes as little as possible where it does not divide
the output.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ...machine import Machine

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_STRIP_BYTES = 128 * 1024
"""A strip of padded input stays well inside L2 beside the weights that pass by (measured: 64-256 KiB are level)."""

RESIDENT_WEIGHT_BYTES = 512 * 1024
"""Weights up to this size stay in L2 from strip to strip; larger ones are read once, with the plane as one strip."""

MAX_PIXELS = 32
FMA_LATENCY = 8
"""Independent accumulators that keep two multiply-add pipes of latency four busy."""

LOAD_CYCLES = 0.1
"""Loads run beside multiply-adds but not for free: of tiles that waste alike, the squarest wins."""

EPILOGUE_CYCLES = 4
"""To finish and store one vector."""


@dataclass(frozen=True, kw_only=True)
class TileKnobs:
    """Knobs of the register-tile template.

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

    def to_json(self) -> str:
        """One line, as block annotations and tuning records hold it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of `to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True, kw_only=True)
class TileProblem:
    """What the cost model needs to know of an operator: all extents in elements.

    ``out_channels`` counts one group; ``strip_row_bytes`` is what one output row of padded input costs in cache.
    ``pixel_planes`` and ``vector_planes`` are the sums that a bit-serial operator keeps for one pixel and one vector;
    ``panel_multiple`` divides a tile's output channels.
    """

    batch: int
    height: int
    width: int
    out_channels: int
    groups: int
    reduction: int
    strip_row_bytes: int
    weight_bytes: int
    pixel_planes: int = 1
    vector_planes: int = 1
    panel_multiple: int = 1


def default_knobs(problem: TileProblem, machine: Machine) -> TileKnobs:
    """The feasible tile with the least estimated cycles; of equals, the largest."""

    def cost(knobs: TileKnobs) -> tuple[float, int]:
        return cycles(problem, knobs, machine), -knobs.tile_h * knobs.tile_w * knobs.vectors

    return min(feasible_knobs(problem, machine), key=cost)


def feasible_knobs(problem: TileProblem, machine: Machine) -> Iterator[TileKnobs]:
    """Every tile whose accumulators and operands fit the registers, each in the default strips and chunks.

    Where none does, one pixel times as few channels as are allowed.
    """
    for lanes, vectors in itertools.product(_lanes(problem, machine), range(1, machine.registers - 2)):
        panel = lanes * vectors
        if panel % problem.panel_multiple or (problem.groups > 1 and problem.out_channels % panel):
            continue
        for tile_h in range(1, min(problem.height, MAX_PIXELS) + 1):
            for tile_w in range(1, min(problem.width, MAX_PIXELS) + 1):
                smallest = panel == problem.panel_multiple and tile_h == tile_w == 1
                fits = _fits(machine, vectors * problem.vector_planes, tile_h * tile_w * problem.pixel_planes)
                if fits or smallest:
                    yield _around(problem, lanes, vectors, tile_h, tile_w)


def _lanes(problem: TileProblem, machine: Machine) -> list[int]:
    """Whole vectors, and half ones where those cost less: 24 channels are three halves, but two whole vectors."""
    whole = min(machine.lanes, max(problem.panel_multiple, 1 << (problem.out_channels - 1).bit_length()))
    return [whole, whole // 2] if machine.half_vector_cost < 1 and whole == machine.lanes else [whole]


def cycles(problem: TileProblem, knobs: TileKnobs, machine: Machine) -> float:
    """Estimated cycles of one batch item, up to a constant."""
    pixels, vectors = (
        knobs.tile_h * knobs.tile_w * problem.pixel_planes,
        knobs.vectors * problem.vector_planes,
    )
    vector = machine.vector_cost(knobs.lanes)
    step = vector * max(pixels * vectors, FMA_LATENCY) + LOAD_CYCLES * (pixels + vectors)
    tiles = -(-problem.height // knobs.tile_h) * -(-problem.width // knobs.tile_w)
    panels = -(-problem.out_channels // knobs.panel)
    epilogue = EPILOGUE_CYCLES * vector * pixels * vectors
    return tiles * panels * (step * problem.reduction + epilogue)


def _fits(machine: Machine, vectors: int, pixels: int) -> bool:
    """Accumulators, one weight vector each, and a register for the broadcast or to spare."""
    return pixels <= MAX_PIXELS and pixels * vectors + vectors + 1 <= machine.registers


def _around(problem: TileProblem, lanes: int, vectors: int, tile_h: int, tile_w: int) -> TileKnobs:
    strip = _strip(problem, tile_h)
    strips = problem.batch * -(-problem.height // (tile_h * strip))
    panels = problem.groups * -(-problem.out_channels // (lanes * vectors))
    chunks = 1 if strips >= 4 else max(d for d in range(1, 9) if panels % d == 0)
    return TileKnobs(lanes=lanes, vectors=vectors, tile_h=tile_h, tile_w=tile_w, strip=strip, chunks=chunks)


def _strip(problem: TileProblem, tile_h: int) -> int:
    tile_rows = -(-problem.height // tile_h)
    if problem.weight_bytes > RESIDENT_WEIGHT_BYTES:
        return tile_rows
    most = max(1, MAX_STRIP_BYTES // max(1, problem.strip_row_bytes * tile_h))
    if problem.batch * tile_rows >= 4:
        most = min(most, max(1, problem.batch * tile_rows // 4))
    candidates = range(1, min(most, tile_rows) + 1)
    return min(candidates, key=lambda rows: (-(-tile_rows // rows) * rows - tile_rows, -rows))
