"""Schedules of `topi.pack_matrix`: a word of a row at a time, vectors of words of neighbouring columns at a time."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..registry import Site, Template, register
from .pack_words import pack_words

ROWS_AT_ONCE = 8
"""Rows of a matrix that are read side by side down its columns: the streams that the prefetcher follows.

Measured on Zen 4, 1025 × 1025: 57 GB/s with 8, 26 with 16, 12 with all 32 of a word.
"""

PANELS_AT_ONCE = 32
"""Panels read along those rows before the next ones follow; their words wait in L1.

Measured on Zen 4, 4096 × 4096: 22 GB/s with 32, 17 with 16, 11 with 1; the same with 64.
"""


def schedule_pack_rows(sch: Schedule, pack: SBlockRV, stages: dict[str, SBlockRV]) -> None:
    """Rows in parallel, words one after the other; fewer columns than a word has bits are left to loops."""
    if (masks := stages.get("row_masks")) is None:
        return
    tile, y, word = sch.get_loops(pack)
    row = sch.fuse(tile, y)
    sch.parallel(row)
    sch.compute_at(masks, word, preserve_unit_loops=True)
    sch.set_scope(masks, 0, "local")
    pack_words(sch, masks, row, None)


def schedule_pack_columns(sch: Schedule, pack: SBlockRV, stages: dict[str, SBlockRV]) -> None:
    """Words in parallel; a vector of columns gathers its bits from a few rows at a time."""
    masks = stages["column_masks"]
    lanes = sch.get(sch.get_loops(masks)[2]).extent
    panel, word, column = sch.get_loops(pack)
    chunk, panel = sch.split(panel, [None, PANELS_AT_ONCE])
    vector, lane = sch.split(column, [None, lanes])
    sch.reorder(word, chunk, panel, vector, lane)
    sch.parallel(word)
    sch.vectorize(lane)
    sch.compute_at(masks, chunk, preserve_unit_loops=True)
    sch.set_scope(masks, 0, "local")
    *_, vector, lane, bit = sch.get_loops(masks)
    rows, bit = sch.split(bit, [None, ROWS_AT_ONCE])
    sch.reorder(rows, vector, bit, lane)
    sch.vectorize(lane)
    sch.unroll(bit)
    sch.decompose_reduction(masks, rows)


def _pack_rows(site: Site) -> None:
    schedule_pack_rows(site.sch, site.anchor, site.stages)


def _pack_columns(site: Site) -> None:
    schedule_pack_columns(site.sch, site.anchor, site.stages)


register("llvm", ["pack_rows"], Template(_pack_rows))
register("llvm", ["pack_columns"], Template(_pack_columns))
