"""Schedule of sparse convolution: knobs, their default, and the epilogue at its tile.

A tile is ``rows`` output rows of ``vectors · lanes`` pixels of one filter, in registers. For every coefficient of the
filter it takes one broadcast, one offset, and a multiply-add with a load for each vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from ...knobs import KnobSet
from ...machine import Machine
from ...sparse_lists import Slab, SparseFilters
from ..registry import Site, Template, register

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Self

    from ...conv2d import Conv2dParams

ENTRY_BYTES = 6
"""An offset and a coefficient."""

EPILOGUE_LANES = 32
"""Pixels that an epilogue takes at once; LLVM splits them into registers."""

RESERVED_REGISTERS = 4
"""Beside the sums: the coefficient, and room for what the compiler hoists."""

MIN_TASKS, MAX_CHUNKS = 4, 4
"""Parallel tasks of a batch, for the threads of a small machine; parts of the filters where strips give too few."""


@dataclass(frozen=True, kw_only=True)
class LookupLoops:
    """A sparse convolution as its cost model sees it.

    Attributes
    ----------
    batch, height, width : int
        Of the output.
    channels, out_channels, nonzeros : int
    row_bytes : int
        Of one padded input row of one channel.
    halo, stride : int
        Input rows under a tile beside its own, and from one output row to the next.
    """

    batch: int
    height: int
    width: int
    channels: int
    out_channels: int
    nonzeros: int
    row_bytes: int
    halo: int
    stride: int

    def slab_bytes(self, rows: int) -> int:
        """Padded input of one channel under so many output rows."""
        return (rows * self.stride + self.halo) * self.row_bytes


class Sparse(Protocol):
    """A problem of `lookup_conv2d`."""

    @property
    def lookup_loops(self) -> LookupLoops:
        """As its cost model sees it."""


@dataclass(frozen=True, kw_only=True)
class LookupKnobs(KnobSet):
    """Knobs of the sparse convolution's template.

    Attributes
    ----------
    lanes : int
        float32 lanes of a vector of neighbouring pixels.
    vectors, rows : int
        Vectors in a row of a tile, and rows.
    strip : int
        Tile rows that share one copy of the padded input.
    block : int
        Input channels whose coefficients are taken together, filter after filter.
    chunks : int
        Equal parts of the filters, for parallelism where there are few strips.
    """

    lanes: int
    vectors: int
    rows: int
    strip: int
    block: int
    chunks: int

    @property
    def width(self) -> int:
        """Pixels in a row of a tile."""
        return self.lanes * self.vectors

    def tiles_of(self, height: int, width: int) -> tuple[int, int]:
        """Strips and column tiles of an output plane."""
        return -(-height // (self.rows * self.strip)), -(-width // self.width)

    def lists(self, weight: np.ndarray, params: Conv2dParams, size: tuple[int, int, int]) -> SparseFilters:
        """Dense weights in the form that is read, for planes of ``size``, (c, h, w)."""
        channels, height, width = size
        slab = Slab.of(params, channels, params.output_size(height, width)[1], self)
        return SparseFilters.of(weight, params, slab, self.block)

    @classmethod
    def tiles(cls, problem: Sparse, machine: Machine) -> Iterator[Self]:
        """Every tile that fits the registers, each in the default strips, blocks and chunks."""
        loops, registers = problem.lookup_loops, machine.registers - RESERVED_REGISTERS
        widths = [machine.lanes, machine.lanes // 2] if machine.half_vector_cost < 1 else [machine.lanes]
        for lanes in widths:
            for vectors in range(1, min(registers, -(-loops.width // lanes)) + 1):
                for rows in range(1, min(registers // vectors, loops.height) + 1):
                    yield cls._around(loops, machine, lanes, vectors, rows)

    @classmethod
    def space(cls, problem: Sparse, machine: Machine) -> Iterator[Self]:
        """Every tile that fits the registers, in every division of rows, channels and filters."""
        loops = problem.lookup_loops
        for tile in cls.tiles(problem, machine):
            for strip in range(1, -(-loops.height // tile.rows) + 1):
                for blocks in range(1, loops.channels + 1):
                    block = -(-loops.channels // blocks)
                    if blocks > 1 and block == -(-loops.channels // (blocks - 1)):
                        continue
                    for chunks in (n for n in range(1, MAX_CHUNKS + 1) if loops.out_channels % n == 0):
                        yield replace(tile, strip=strip, block=block, chunks=chunks)

    @classmethod
    def default(cls, problem: Sparse, machine: Machine) -> Self | None:
        """The tile with the least estimated cycles."""
        tiles = set(cls.tiles(problem, machine))
        return min(tiles, key=lambda knobs: (knobs.cycles(problem, machine), knobs.to_json()), default=None)

    def cycles(self, problem: Sparse, machine: Machine) -> float:
        """Of the whole batch, with the coefficients from where they lie between two inferences."""
        loops = problem.lookup_loops
        strips, columns = self.tiles_of(loops.height, loops.width)
        tiles = loops.batch * strips * self.strip * columns
        loads = self.rows * self.vectors * self.lanes / machine.lanes
        far = 1 if self.block * loops.slab_bytes(self.rows) <= machine.l1_bytes else machine.l2_load_factor
        visits = loops.out_channels * -(-loops.channels // self.block)
        copied = loops.channels * loops.slab_bytes(self.rows * self.strip)
        sums = tiles * (
            loops.nonzeros * (machine.cycles(loads * machine.scattered_load_cost) * far + machine.coefficient_cycles)
            + visits * (machine.cycles(4 * loads) + machine.visit_cycles)
        )  # fmt: skip
        copies = loops.batch * strips * copied * 2 / machine.l2_bandwidth
        return max(sums + copies, machine.streaming_cycles(ENTRY_BYTES * loops.nonzeros))

    @classmethod
    def _around(cls, loops: LookupLoops, machine: Machine, lanes: int, vectors: int, rows: int) -> Self:
        tile_rows = -(-loops.height // rows)
        fitting = [
            strip
            for strip in range(1, tile_rows + 1)
            if loops.channels * loops.slab_bytes(strip * rows) <= machine.resident_bytes
        ]
        strips = max(-(-tile_rows // max(fitting, default=1)), min(tile_rows, MIN_TASKS // loops.batch))
        strip = -(-tile_rows // strips)
        few = loops.batch * -(-tile_rows // strip) < MIN_TASKS
        chunks = max(n for n in range(1, MAX_CHUNKS + 1) if loops.out_channels % n == 0) if few else 1
        block = min(loops.channels, max(1, machine.block_bytes // loops.slab_bytes(rows)))
        block = -(-loops.channels // -(-loops.channels // block))
        return cls(lanes=lanes, vectors=vectors, rows=rows, strip=strip, block=block, chunks=chunks)


def _schedule_lookup(site: Site) -> None:
    """Move the block behind all epilogues to the tile that the anchor has just stored."""
    sch, anchor, last, knobs = site.sch, site.anchor, site.last, site.knobs(LookupKnobs)
    sch.reverse_compute_at(last, sch.get_loops(anchor)[-1], preserve_unit_loops=True)
    row = sch.get_loops(last)[-1]
    extent = int(sch.get(row).extent)
    # Conditions on lanes cost more than vectors of odd widths: a bias on 28 of 32 took as long as half of the sums.
    even = max(n for n in range(1, EPILOGUE_LANES + 1) if extent % n == 0)
    _, lane = sch.split(row, [None, even if even >= knobs.lanes // 2 else knobs.lanes])
    sch.vectorize(lane)


register("llvm", ["lookup_conv2d"], Template(_schedule_lookup))
