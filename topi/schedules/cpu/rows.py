"""Schedules of what is computed word by word, in rows: packing of NHWC, and pooling of packed bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV

from ...knobs import KnobSet
from ...machine import Machine
from ..loops import vectorize_innermost, volume
from ..registry import Site, Template, register
from .pack_words import pack_words

if TYPE_CHECKING:
    from typing_extensions import Self


class Rows(Protocol):
    """A problem in rows: ``height`` of them in each of ``batch`` planes, of so many ``operations`` on vectors."""

    batch: int
    height: int

    @property
    def operations(self) -> float:
        """Of a row."""


@dataclass(frozen=True, kw_only=True)
class RowKnobs(KnobSet):
    """``rows`` of a parallel task."""

    rows: int

    @classmethod
    def space(cls, problem: Rows, _machine: Machine) -> Iterator[Self]:
        """Any number that divides the height: rows that may be missing cannot be packed by an intrinsic."""
        for rows in range(1, problem.height + 1):
            if problem.height % rows == 0:
                yield cls(rows=rows)

    @classmethod
    def default(cls, _problem: Rows, _machine: Machine) -> Self:
        """One."""
        return cls(rows=1)

    def cycles(self, problem: Rows, machine: Machine) -> float:
        """Of the whole batch."""
        rows = -(-problem.height // self.rows) * self.rows
        return machine.cycles(problem.batch * rows * problem.operations)


def _tasks(sch: Schedule, n: LoopRV, y: LoopRV, knobs: RowKnobs) -> LoopRV:
    """One loop over tasks."""
    if knobs.rows == 1:
        return sch.fuse(n, y)
    task, _row = sch.split(y, [None, knobs.rows])
    return sch.fuse(n, task)


def _schedule_bitpack(site: Site) -> None:
    """Tasks in parallel, words one after the other."""
    sch, pack = site.sch, site.anchor
    n, y, _x, word, _ = sch.get_loops(pack)
    task = _tasks(sch, n, y, site.knobs(RowKnobs))
    sch.parallel(task)
    if (prepared := site.stages.get("prepared")) is not None:
        sch.compute_at(prepared, word, preserve_unit_loops=True)
        sch.set_scope(prepared, 0, "local")
        vectorize_innermost(sch, prepared, site.machine.lanes)
    pack_words(sch, pack, task, prepared)


def _schedule_bit_pool(site: Site) -> None:
    """Tasks in parallel where they are worth waking a thread, words in vectors."""
    sch, pool, machine = site.sch, site.anchor, site.machine
    vectorize_innermost(sch, pool, machine.lanes)
    n, y, *_ = sch.get_loops(pool)
    task = _tasks(sch, n, y, site.knobs(RowKnobs))
    symbolic, known = volume(sch, pool)
    if symbolic or known >= machine.wake_cycles:
        sch.parallel(task)


register("llvm", ["bitpack"], Template(_schedule_bitpack))
register("llvm", ["bit_max_pool2d"], Template(_schedule_bit_pool))
