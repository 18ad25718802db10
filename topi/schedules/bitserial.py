"""Schedules of what packs bits: `bitpack`, and bit-serial convolutions that decide and pack on the register tile."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..bits import WORD_BITS
from ..machine import Machine
from .byte_counts import schedule_byte_counts
from .conv2d import keep_in_registers, schedule_sums
from .loops import vectorize_innermost
from .pack_words import pack_words
from .skip_rows import skip_rows
from .tile import TileKnobs


def schedule_bitpack(sch: Schedule, pack: SBlockRV, stages: dict[str, SBlockRV], machine: Machine) -> None:
    """Rows in parallel, words one after the other."""
    n, y, _x, word, _ = sch.get_loops(pack)
    row = sch.fuse(n, y)
    sch.parallel(row)
    if (prepared := stages.get("prepared")) is not None:
        sch.compute_at(prepared, word, preserve_unit_loops=True)
        sch.set_scope(prepared, 0, "local")
        vectorize_innermost(sch, prepared, machine.lanes)
    pack_words(sch, pack, row, prepared)


def schedule_packed_tile(
    sch: Schedule, anchor: SBlockRV, stages: dict[str, SBlockRV], knobs: TileKnobs
) -> None:
    """The register tile of `schedule_tile`, whose results are compared and packed before the next one starts."""
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
    reductions = schedule_sums(sch, anchor, knobs)
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
