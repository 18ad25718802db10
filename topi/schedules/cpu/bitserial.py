"""Schedules of bitserial convolutions, and of those that decide and pack on the register tile."""

from tvm.s_tir.schedule import LoopRV

from ...bits import WORD_BITS
from ..loops import vectorize_innermost
from ..registry import Site, Template, register
from .byte_counts import schedule_byte_counts
from .conv2d import PLAIN_SUMS, keep_in_registers, schedule_sums, schedule_tile
from .pack_words import pack_words
from .skip_rows import skip_rows
from .tile import TileKnobs


def _schedule_convolution(site: Site) -> LoopRV | None:
    if "pack" not in site.stages:
        return schedule_tile(site, PLAIN_SUMS)
    _schedule_packed_tile(site)
    return None


def _schedule_packed_tile(site: Site) -> None:
    """The register tile of `schedule_tile`, whose results are compared and packed before the next one starts."""
    sch, anchor, stages, knobs = site.sch, site.anchor, site.stages, site.knobs(TileKnobs)
    pack, weighted, window = stages["pack"], stages["weighted"], stages.get("window")
    readers = sch.get_consumers(pack)
    n, y, x, word = sch.get_loops(readers[0] if readers else pack)[:4]
    outer, inner = sch.split(word, [None, knobs.panel // WORD_BITS])
    chunk, panel = sch.split(outer, [knobs.chunks, None])
    strip, row, tile_y = sch.split(y, [None, knobs.strip, knobs.tile_h])
    column, tile_x = sch.split(x, [None, knobs.tile_w])
    sch.reorder(n, strip, chunk, panel, row, column, tile_y, tile_x, inner)
    outermost = sch.fuse(n, strip, chunk)
    sch.parallel(outermost)
    tile = [tile_y, tile_x, inner]
    if readers:
        sch.set_scope(pack, 0, "local")
        sch.compute_at(pack, column, preserve_unit_loops=True)
        tile += sch.get_loops(pack)[-4:-1]
    for loop in tile:
        sch.unroll(loop)
    sch.set_scope(weighted, 0, "local")
    sch.compute_at(weighted, column, preserve_unit_loops=True)
    *_, tile_y, tile_x, channel = sch.get_loops(weighted)
    vector, lane = sch.split(channel, [None, knobs.lanes])
    keep_in_registers(sch, [tile_y, tile_x, vector], lane)
    sch.set_scope(anchor, 0, "local")
    sch.compute_at(anchor, column, preserve_unit_loops=True)
    reductions = schedule_sums(site, knobs)
    if "bytes" in stages:
        sch.compute_at(stages["bytes"], reductions[-1], preserve_unit_loops=True)
    if window is not None:
        sch.compute_at(window, outermost, preserve_unit_loops=True)
        vectorize_innermost(sch, window, knobs.lanes)
    if "bytes" in stages:
        schedule_byte_counts(sch, stages["bytes"], knobs.lanes)
    sch.decompose_reduction(anchor, reductions[0])
    skip_rows(sch, anchor, reductions[0])
    pack_words(sch, pack, outermost, weighted)


register("llvm", ["bitserial_conv2d"], Template(_schedule_convolution))
