"""Schedule of `winograd_conv2d`: what lies between input and output stays in cache.

A strip of tile rows at a time: the padded input, its transform (first down the columns, each column once, then along
the rows), one register-tiled matrix product per element of the transform, and the inverse transform at the tiles of
the block that stores the result. Where one strip is the whole plane, the three steps are parallel one by one, so that
no thread transforms what another has transformed already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ...machine import Machine
from ..loops import vectorize_innermost
from ..registry import Site, Template, register
from .packed_inputs import pack_inputs, packs_inputs
from .tile import LoopsOnly, TileKnobs, TileLoops, feasible_tiles

if TYPE_CHECKING:
    from typing_extensions import Self


DATA_OPERATIONS = {4: 70, 6: 280}
OUTPUT_OPERATIONS = {(2, 4): 45, (4, 6): 180, (3, 6): 140, (2, 6): 100}
"""Vector operations, loads and stores among them, to transform one tile of one vector of channels, by its sides."""


@dataclass(frozen=True, kw_only=True)
class WinogradLoops:
    """The operator as its cost model sees it.

    ``tile`` is one of its products: tiles for pixels, input channels for the reduction. ``m`` and ``size`` are outputs
    and inputs per side of a tile.
    """

    tile: TileLoops
    m: int
    size: int


class Winograd(Protocol):
    """A problem of `winograd_conv2d`."""

    @property
    def winograd_loops(self) -> WinogradLoops:
        """As its cost model sees it."""


@dataclass(frozen=True, kw_only=True)
class WinogradKnobs(TileKnobs):
    """Knobs of the Winograd template: a register tile over tiles instead of pixels, in strips of tile rows."""

    @classmethod
    def tiles(cls, problem: Winograd, machine: Machine) -> Iterator[Self]:
        """Every tile that fits the registers, in strips of one row."""
        for lanes, vectors, tile_h, tile_w in feasible_tiles(problem.winograd_loops.tile, machine):
            yield cls(lanes=lanes, vectors=vectors, tile_h=tile_h, tile_w=tile_w, strip=1, chunks=1)

    @classmethod
    def space(cls, problem: Winograd, machine: Machine) -> Iterator[Self]:
        """Every tile in every strip; the panels are not divided."""
        for tile in cls.tiles(problem, machine):
            for strip in range(1, -(-problem.winograd_loops.tile.height // tile.tile_h) + 1):
                yield replace(tile, strip=strip)

    @classmethod
    def default(cls, problem: Winograd, machine: Machine) -> Self | None:
        """The best tile for the products, in the best strip for them."""
        loops = problem.winograd_loops
        best = TileKnobs.default(LoopsOnly(loops.tile), machine)
        if best is None:
            return None
        tile = cls(**{**vars(best), "chunks": 1})
        return replace(tile, strip=tile._best_strip(loops, machine))

    def cycles(self, problem: Winograd, machine: Machine) -> float:
        """Of the whole batch."""
        loops = problem.winograd_loops
        tile = loops.tile
        tiles = tile.batch * tile.height * tile.width
        transforms = machine.vector_cost(self.lanes) * tiles * (
            DATA_OPERATIONS[loops.size] * -(-tile.reduction // self.lanes)
            + OUTPUT_OPERATIONS[loops.m, loops.size] * -(-tile.out_channels // self.lanes)
        )  # fmt: skip
        products = tile.batch * loops.size**2 * self.cost(tile, machine)
        return machine.cycles(products + transforms) + tile.weight_bytes / machine.memory_bandwidth

    def _best_strip(self, loops: WinogradLoops, machine: Machine) -> int:
        """One row of tiles, whose transforms stay near; more only where no cache holds the weights from row to row.

        Weights that come from the last cache do so behind the products. Alone on a Zen 4
        (``benchmarks/bench_winograd_strips.py``), one row is 1.06 to 1.12 times as fast as the whole plane where
        weights take up to 9 MB, and 0.86 with 38; in networks 1.03 to 1.3 up to 5 MB, the same with 9, 0.9 with 17.
        """
        tile, tile_rows = loops.tile, -(-loops.tile.height // self.tile_h)
        cached = tile.weight_bytes <= max(machine.l2_bytes, machine.own_l3_bytes)

        def cost(strip: int) -> tuple[float, int]:
            strips = -(-tile_rows // strip)
            live = strip * self.tile_h * tile.strip_row_bytes
            spilled = 2 * live * strips / machine.l2_bandwidth if live > machine.l2_bytes else 0.0
            again = 0.0 if cached else tile.weight_bytes * (strips - 1) / machine.memory_bandwidth
            idle = (strips * strip - tile_rows) / tile_rows * loops.size**2 * self.cost(tile, machine)
            return spilled + again + machine.cycles(idle), strip

        return min(range(1, tile_rows + 1), key=cost)


def _schedule_winograd(site: Site) -> None:
    """Schedule the whole chain that ends in the block that stores the result."""
    sch, last, stages, knobs = site.sch, site.last, site.stages, site.knobs(WinogradKnobs)
    back = stages["output_columns"]
    m = int(sch.get(back).iter_vars[0].dom.extent)
    n, y, x, o = sch.get_loops(last)
    strip, tile_row, inner_y = sch.split(y, [None, knobs.strip * knobs.tile_h, m])
    tile_column, inner_x = sch.split(x, [None, m])
    panel, lane = sch.split(o, [None, knobs.lanes])
    sch.reorder(n, strip, tile_row, tile_column, panel, inner_y, inner_x, lane)
    whole_plane = int(sch.get(strip).extent) == 1
    if whole_plane:
        sch.parallel(sch.fuse(n, strip, tile_row))
        outermost = None
    else:
        outermost = sch.fuse(n, strip)
        sch.parallel(outermost)
    _unroll(sch, [inner_y, inner_x], lane)
    sch.set_scope(back, 0, "local")
    sch.compute_at(back, panel, preserve_unit_loops=True)
    row, column, *_, lane = sch.get_loops(back)[-6:]
    _unroll(sch, [row, column], lane)
    _schedule_products(site, outermost, knobs)
    _schedule_data(sch, stages, outermost, knobs)


def _unroll(sch: Schedule, loops: list[LoopRV], lane: LoopRV) -> None:
    sch.vectorize(lane)
    for loop in loops:
        sch.unroll(loop)


def _schedule_products(site: Site, outermost: LoopRV | None, knobs: WinogradKnobs) -> None:
    sch, anchor = site.sch, site.anchor
    store = sch.cache_write(anchor, 0, "local")
    if outermost is not None:
        sch.compute_at(store, outermost, preserve_unit_loops=True)
    a, b, n, ty, tx, o = sch.get_loops(store)[-6:]
    ty, tile_y = sch.split(ty, [None, knobs.tile_h])
    tx, tile_x = sch.split(tx, [None, knobs.tile_w])
    panel, vector, lane = sch.split(o, [None, knobs.vectors, knobs.lanes])
    sch.reorder(a, b, n, panel, ty, tx, tile_y, tile_x, vector, lane)
    _unroll(sch, [tile_y, tile_x, vector], lane)
    sch.compute_at(anchor, tx, preserve_unit_loops=True)
    ty, tile, o, rc = sch.get_loops(anchor)[-4:]
    vector, lane = sch.split(o, [None, knobs.lanes])
    sch.reorder(rc, ty, tile, vector, lane)
    if packs_inputs(site, rc):
        rc = pack_inputs(site, rc, [ty, tile], vector, lane)
    _unroll(sch, [ty, tile, vector], lane)
    if outermost is None:
        sch.parallel(sch.fuse(a, b, n, panel))
    sch.decompose_reduction(anchor, rc)


def _schedule_data(
    sch: Schedule, stages: dict[str, SBlockRV], outermost: LoopRV | None, knobs: WinogradKnobs
) -> None:
    rows, columns, window = stages["data_rows"], stages["data_columns"], stages["window"]
    if outermost is not None:
        sch.compute_at(rows, outermost, preserve_unit_loops=True)
    a, b, n, ty, tx, k = sch.get_loops(rows)[-6:]
    lanes = knobs.lanes
    while int(sch.get(k).extent) % lanes:
        lanes //= 2
    channels, lane = sch.split(k, [None, lanes])
    sch.reorder(n, ty, channels, tx, a, b, lane)
    _unroll(sch, [a, b], lane)
    sch.compute_at(columns, channels, preserve_unit_loops=True)
    a, n_inner, ty_inner, x, k = sch.get_loops(columns)[-5:]
    sch.reorder(n_inner, ty_inner, x, a, k)
    _unroll(sch, [a], k)
    if outermost is None:
        outermost = sch.fuse(n, ty)
        sch.parallel(outermost)
    sch.compute_at(window, outermost, preserve_unit_loops=True)
    vectorize_innermost(sch, window, lanes)


register("llvm", ["winograd_conv2d"], Template(_schedule_winograd))
