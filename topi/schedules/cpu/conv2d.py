"""Register-tile schedule of `conv2d` and `dense`: one nest of outer loops, the tile in registers inside."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ..loops import vectorize_innermost
from ..registry import Site, Template, register
from .byte_counts import schedule_byte_counts
from .packed_inputs import pack_inputs, packs_inputs
from .skip_rows import skip_rows
from .tile import TileKnobs


@dataclass(frozen=True)
class Sums:
    """What differs between the operators that are computed on the register tile.

    Attributes
    ----------
    order : callable
        (site, knobs): orders the sums, which stand at their place, around the vectors, and returns the reduction
        loops, without those that are unrolled.
    finish : callable, optional
        (site, the block that zeroes the sums, knobs): the last step.
    copy_window : callable, optional
        (schedule, anchor, window, knobs): lays out the copy of the padded input; by default in vectors.
    """

    order: Callable[[Site, TileKnobs], list[LoopRV]]
    finish: Callable[[Site, SBlockRV, TileKnobs], None] | None = None
    copy_window: Callable[[Schedule, SBlockRV, SBlockRV, TileKnobs], None] | None = None


def tile_template(sums: Sums) -> Template:
    """The template of an operator that is computed on the register tile."""
    return Template(partial(schedule_tile, sums=sums), partial(_place_tile, sums=sums))


def schedule_tile(site: Site, sums: Sums, kind: type[TileKnobs] = TileKnobs) -> LoopRV:
    """Schedule the sums of the anchor at the register tiles of the block that stores the result.

    Its stages: ``window``, the padded input, absent where the input is read in place; ``bytes`` of `byte_counts`.
    """
    sch, knobs = site.sch, site.knobs(kind)
    n, y, x, o = _four_loops(sch, site.last)
    panel, row, column, tile = _split_tile(sch, y, x, o, knobs)
    chunk, panel = sch.split(panel, [knobs.chunks, None])
    strip, row = sch.split(row, [None, knobs.strip])
    sch.reorder(n, strip, chunk, panel, row, column, *tile)
    outermost = sch.fuse(n, strip, chunk)
    sch.parallel(outermost)
    _fill_tile(site, sums, knobs, outermost, column, tile)
    return outermost


def _place_tile(site: Site, outermost: LoopRV, sums: Sums) -> None:
    knobs = site.knobs(TileKnobs)
    y, x, o = site.sch.get_loops(site.last)[-3:]
    panel, row, column, tile = _split_tile(site.sch, y, x, o, knobs)
    site.sch.reorder(panel, row, column, *tile)
    _fill_tile(site, sums, knobs, outermost, column, tile)


def _split_tile(
    sch: Schedule, y: LoopRV, x: LoopRV, o: LoopRV, knobs: TileKnobs
) -> tuple[LoopRV, LoopRV, LoopRV, list[LoopRV]]:
    """Loops over panels, tile rows and tile columns, and those of a tile."""
    panel, vector, lane = sch.split(o, [None, knobs.vectors, knobs.lanes])
    row, tile_y = sch.split(y, [None, knobs.tile_h])
    column, tile_x = sch.split(x, [None, knobs.tile_w])
    return panel, row, column, [tile_y, tile_x, vector, lane]


def _fill_tile(
    site: Site, sums: Sums, knobs: TileKnobs, outermost: LoopRV, column: LoopRV, tile: list[LoopRV]
) -> None:
    """Lay out the sums of a tile under the loop ``column``, and the padded input under ``outermost``."""
    sch, anchor, counted = site.sch, site.anchor, site.stages.get("bytes")
    keep_in_registers(sch, tile[:-1], tile[-1])
    sch.set_scope(anchor, 0, "local")
    sch.compute_at(anchor, column, preserve_unit_loops=True)
    reductions = sums.order(site, knobs)
    if counted is not None:
        sch.compute_at(counted, reductions[-1], preserve_unit_loops=True)
    if (window := site.stages.get("window")) is not None:
        sch.compute_at(window, outermost, preserve_unit_loops=True)
        if sums.copy_window is not None:
            sums.copy_window(sch, anchor, window, knobs)
        else:
            vectorize_innermost(sch, window, knobs.lanes)
    if counted is not None:
        schedule_byte_counts(sch, counted, knobs.lanes)
    init = sch.decompose_reduction(anchor, reductions[0])
    skip_rows(sch, anchor, reductions[0])
    if sums.finish is not None:
        sums.finish(site, init, knobs)


def _four_loops(sch: Schedule, block: SBlockRV) -> list[LoopRV]:
    """The loops of ``block`` as batch, row, column, channel; dense layers have fewer axes, or more in front."""
    loops = sch.get_loops(block)
    while len(loops) < 4:
        loops = [sch.add_unit_loop(loops[0]), *loops]
    return [sch.fuse(*loops[:-3]), *loops[-3:]] if len(loops) > 4 else loops


def schedule_sums(site: Site, knobs: TileKnobs) -> list[LoopRV]:
    """Order the sums of the anchor, which stand at their place, around the vectors; returns its reduction loops."""
    sch, anchor = site.sch, site.anchor
    axes = [var.iter_type for var in sch.get(anchor).iter_vars]
    loops = sch.get_loops(anchor)[-len(axes) :]
    spatial = [loop for loop, kind in zip(loops, axes, strict=True) if kind == tirx.IterVar.DataPar]
    reductions = [loop for loop, kind in zip(loops, axes, strict=True) if kind == tirx.IterVar.CommReduce]
    vector, lane = sch.split(spatial[-1], [None, knobs.lanes])
    single = [loop for loop in spatial[:-1] if _is_single(sch, loop)]
    tile = [loop for loop in spatial[:-1] if not _is_single(sch, loop)]
    sch.reorder(*single, *reductions, *tile, vector, lane)
    if packs_inputs(site, reductions[-1]):
        reductions[-1] = pack_inputs(site, reductions[-1], tile, vector, lane)
    keep_in_registers(sch, [*single, *tile, vector], lane)
    return reductions


def _is_single(sch: Schedule, loop: LoopRV) -> bool:
    extent = sch.get(loop).extent
    return isinstance(extent, tirx.IntImm) and int(extent) == 1


def keep_in_registers(sch: Schedule, loops: list[LoopRV], lane: LoopRV) -> None:
    """Unroll ``loops`` around the vectors ``lane``, so that what they index is never memory."""
    sch.vectorize(lane)
    for loop in loops:
        sch.unroll(loop)


PLAIN_SUMS = Sums(schedule_sums)

register("llvm", ["conv2d", "dense", "batch_matmul"], tile_template(PLAIN_SUMS))
