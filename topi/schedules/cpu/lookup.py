"""Schedule of sparse convolution: knobs, their default, and the epilogue at its tile.

A tile is ``rows`` output rows of ``vectors · lanes`` pixels of one filter, in registers. For every coefficient of the
filter it takes one broadcast, one offset, and a multiply-add with a load for each vector.
"""

import json
from dataclasses import asdict, dataclass

from ...machine import Machine
from ..registry import Site, Template, register

BLOCK_BYTES = 24 * 1024
"""Padded input of one block of channels under one tile: it stays in L1 while all filters pass by."""

SLAB_BYTES = 512 * 1024
"""Padded input of all channels under one strip: it stays in L2."""

EPILOGUE_LANES = 32
"""Pixels that an epilogue takes at once; LLVM splits them into registers."""

RESERVED_REGISTERS = 4
"""Beside the sums: the coefficient, and room for what the compiler hoists."""

FLOATS_PER_CYCLE = 16
"""Of multiply-adds in registers; turns cycles into the unit of the dense operators' estimates."""

LOAD_CYCLES = 1.8
"""To load and add `FLOATS_PER_CYCLE` that start anywhere, most of them across cache lines (Zen 4, from L1)."""

L1_BYTES, FAR = 32 * 1024, 2.0
"""A block beyond L1 is loaded at half the speed."""

COEFFICIENT_CYCLES, VISIT_CYCLES = 3.0, 12.0
"""What each coefficient takes beside its multiply-adds, and each visit of a filter to a block of channels beside
reading and writing its sums in L2."""


@dataclass(frozen=True, kw_only=True)
class LookupKnobs:
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

    def tiles(self, height: int, width: int) -> tuple[int, int]:
        """Strips and column tiles of an output plane."""
        return -(-height // (self.rows * self.strip)), -(-width // self.width)

    def to_json(self) -> str:
        """One line, as block annotations and tuning records hold it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "LookupKnobs":
        """Inverse of `to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True, kw_only=True)
class LookupProblem:
    """What the cost model needs to know.

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


def default_lookup_knobs(problem: LookupProblem, machine: Machine) -> LookupKnobs:
    """The tile with the least estimated cycles."""
    registers = machine.registers - RESERVED_REGISTERS
    widths = [machine.lanes, machine.lanes // 2] if machine.half_vector_cost < 1 else [machine.lanes]
    tiles = {
        _around(problem, lanes, vectors, rows)
        for lanes in widths
        for vectors in range(1, min(registers, -(-problem.width // lanes)) + 1)
        for rows in range(1, min(registers // vectors, problem.height) + 1)
    }
    return min(tiles, key=lambda knobs: (lookup_cycles(problem, knobs, machine), knobs.to_json()))


def _around(problem: LookupProblem, lanes: int, vectors: int, rows: int) -> LookupKnobs:
    tile_rows = -(-problem.height // rows)
    fitting = [
        strip
        for strip in range(1, tile_rows + 1)
        if problem.channels * problem.slab_bytes(strip * rows) <= SLAB_BYTES
    ]
    strips = max(-(-tile_rows // max(fitting, default=1)), min(tile_rows, 4 // problem.batch))
    strip = -(-tile_rows // strips)
    few = problem.batch * -(-tile_rows // strip) < 4
    chunks = max(n for n in range(1, 5) if problem.out_channels % n == 0) if few else 1
    block = min(problem.channels, max(1, BLOCK_BYTES // problem.slab_bytes(rows)))
    block = -(-problem.channels // -(-problem.channels // block))
    return LookupKnobs(lanes=lanes, vectors=vectors, rows=rows, strip=strip, block=block, chunks=chunks)


def lookup_cycles(problem: LookupProblem, knobs: LookupKnobs, machine: Machine) -> float:
    """Estimated time of one core, in units of a multiply-add of a whole vector."""
    strips, columns = knobs.tiles(problem.height, problem.width)
    tiles = problem.batch * strips * knobs.strip * columns
    loads = knobs.rows * knobs.vectors * knobs.lanes / FLOATS_PER_CYCLE
    distance = 1 if knobs.block * problem.slab_bytes(knobs.rows) <= L1_BYTES else FAR
    visits = problem.out_channels * -(-problem.channels // knobs.block)
    copied = problem.channels * problem.slab_bytes(knobs.rows * knobs.strip) / 32
    cycles = tiles * (
        problem.nonzeros * (loads * LOAD_CYCLES * distance + COEFFICIENT_CYCLES)
        + visits * (4 * loads + VISIT_CYCLES)
    )
    return (cycles + problem.batch * strips * copied) * FLOATS_PER_CYCLE / machine.lanes


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
