"""Schedule of `winograd_conv2d`: what lies between input and output stays in cache.

A strip of tile rows at a time: the padded input, its transform (first down the columns, each column once, then along
the rows), one register-tiled matrix product per element of the transform, and the inverse transform at the tiles of
the block that stores the result. Where one strip is the whole plane, the three steps are parallel one by one, so that
no thread transforms what another has transformed already.
"""

from dataclasses import asdict, dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ...machine import Machine
from ..loops import vectorize_innermost
from ..registry import Site, Template, register
from .tile import TileKnobs, TileProblem, cycles, default_knobs


@dataclass(frozen=True, kw_only=True)
class WinogradKnobs(TileKnobs):
    """Knobs of the Winograd template: a register tile over tiles instead of pixels.

    Attributes
    ----------
    m, size : int
        Outputs and inputs per side of a tile.
    """

    m: int
    size: int


DATA_CYCLES, OUTPUT_CYCLES = {4: 70, 6: 280}, {(2, 4): 45, (4, 6): 180, (2, 6): 100}
"""Cycles to transform one tile of one vector of channels, by its sides (measured on Zen 4; Intel is close)."""

STREAM_BYTES = 6
"""Weights arrive at this many bytes per cycle, while little else goes on: each inference reads them from memory."""

CACHE_BYTES = 24
"""Bytes per cycle between L2 and L3."""


def winograd_cycles(problem: TileProblem, knobs: WinogradKnobs, machine: Machine) -> float:
    """Estimated cycles of the whole operator, in the unit of `tile.cycles`.

    Parameters
    ----------
    problem : TileProblem
        One product: tiles for pixels, input channels for the reduction.
    """
    elements = knobs.size**2
    products = elements * cycles(problem, knobs, machine)
    tiles = problem.batch * problem.height * problem.width
    transforms = (
        machine.vector_cost(knobs.lanes)
        * tiles
        * (
            DATA_CYCLES[knobs.size] * -(-problem.reduction // knobs.lanes)
            + OUTPUT_CYCLES[knobs.m, knobs.size] * -(-problem.out_channels // knobs.lanes)
        )
    )
    return problem.batch * products + problem.weight_bytes / STREAM_BYTES + transforms


def default_winograd_knobs(problem: TileProblem, machine: Machine, m: int, size: int) -> WinogradKnobs:
    """The register tile of `default_knobs`, in strips that balance re-read weights against spilled transforms."""
    tile = default_knobs(problem, machine)
    tile_rows = -(-problem.height // tile.tile_h)

    def cost(strip: int) -> tuple[float, int]:
        strips = -(-tile_rows // strip)
        live = strip * tile.tile_h * problem.strip_row_bytes
        spilled = 2 * live * strips if live > machine.l2_bytes else 0
        moved = (problem.weight_bytes * (strips - 1) + spilled) / CACHE_BYTES
        idle = (strips * strip - tile_rows) / tile_rows * size**2 * cycles(problem, tile, machine)
        return moved + idle, -strip

    strip = min(range(1, tile_rows + 1), key=cost)
    return WinogradKnobs(**{**asdict(tile), "strip": strip, "chunks": 1, "m": m, "size": size})


def _schedule_winograd(site: Site) -> None:
    """Schedule the whole chain that ends in the block that stores the result."""
    sch, last, stages, knobs = site.sch, site.last, site.stages, site.knobs(WinogradKnobs)
    n, y, x, o = sch.get_loops(last)
    strip, tile_row, inner_y = sch.split(y, [None, knobs.strip * knobs.tile_h, knobs.m])
    tile_column, inner_x = sch.split(x, [None, knobs.m])
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
    back = stages["output_columns"]
    sch.set_scope(back, 0, "local")
    sch.compute_at(back, panel, preserve_unit_loops=True)
    row, column, *_, lane = sch.get_loops(back)[-6:]
    _unroll(sch, [row, column], lane)
    _schedule_products(sch, site.anchor, outermost, knobs)
    _schedule_data(sch, stages, outermost, knobs)


def _unroll(sch: Schedule, loops: list[LoopRV], lane: LoopRV) -> None:
    sch.vectorize(lane)
    for loop in loops:
        sch.unroll(loop)


def _schedule_products(
    sch: Schedule, anchor: SBlockRV, outermost: LoopRV | None, knobs: WinogradKnobs
) -> None:
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
