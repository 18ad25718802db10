"""Schedules of `topi.pack_matrix`: a word of a row at a time, vectors of words of neighbouring columns at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ...knobs import KnobSet
from ...machine import Machine
from ..registry import Site, Template, register
from .pack_words import pack_words

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class PackKnobs(KnobSet):
    """Knobs of packing down columns.

    Attributes
    ----------
    rows : int
        Rows of a matrix that are read side by side, a divisor of 32: the streams that the prefetcher follows.
        (Zen 4, 1025 × 1025: 57 GB/s with 8, 26 with 16, 12 with all 32 of a word.)
    panels : int
        Panels read along those rows before the next ones follow; their words wait in L1. (Zen 4, 4096 × 4096: 22 GB/s
        with 32, 17 with 16, 11 with 1; the same with 64.)
    """

    rows: int = 8
    panels: int = 32

    @classmethod
    def space(cls, _problem: Any, _machine: Machine) -> Iterator[Self]:
        """Powers of two."""
        for rows, panels in itertools.product((1, 2, 4, 8, 16, 32), (1, 2, 4, 8, 16, 32, 64)):
            yield cls(rows=rows, panels=panels)

    @classmethod
    def default(cls, _problem: Any, _machine: Machine) -> Self:
        """What was measured to be fast."""
        return cls()

    def cycles(self, problem: Any, machine: Machine) -> float:
        """To read the matrix (inner, columns)."""
        return 4 * problem.inner * problem.columns / machine.l3_bandwidth


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


def schedule_pack_columns(
    sch: Schedule, pack: SBlockRV, stages: dict[str, SBlockRV], knobs: PackKnobs
) -> None:
    """Words in parallel; a vector of columns gathers its bits from a few rows at a time."""
    masks = stages["column_masks"]
    lanes = sch.get(sch.get_loops(masks)[2]).extent
    panel, word, column = sch.get_loops(pack)
    chunk, panel = sch.split(panel, [None, knobs.panels])
    vector, lane = sch.split(column, [None, lanes])
    sch.reorder(word, chunk, panel, vector, lane)
    sch.parallel(word)
    sch.vectorize(lane)
    sch.compute_at(masks, chunk, preserve_unit_loops=True)
    sch.set_scope(masks, 0, "local")
    *_, vector, lane, bit = sch.get_loops(masks)
    rows, bit = sch.split(bit, [None, knobs.rows])
    sch.reorder(rows, vector, bit, lane)
    sch.vectorize(lane)
    sch.unroll(bit)
    sch.decompose_reduction(masks, rows)


def _pack_rows(site: Site) -> None:
    schedule_pack_rows(site.sch, site.anchor, site.stages)


def _pack_columns(site: Site) -> None:
    schedule_pack_columns(site.sch, site.anchor, site.stages, site.knobs(PackKnobs))


register("llvm", ["pack_rows"], Template(_pack_rows))
register("llvm", ["pack_columns"], Template(_pack_columns))
