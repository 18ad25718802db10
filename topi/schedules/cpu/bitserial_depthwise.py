"""Schedule of the depthwise convolution of bits: rows in parallel, vectors along the words of a whole row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...bits import WORD_BITS
from ...knobs import KnobSet
from ...machine import Machine
from ..loops import vectorize_innermost, volume
from ..registry import Site, Template, register

if TYPE_CHECKING:
    from typing_extensions import Self

ROWS = 8
"""Output rows of a task by default: its window holds few rows twice, and it is large enough for a thread."""


@dataclass(frozen=True, kw_only=True)
class BitserialDepthwiseLoops:
    """A depthwise convolution of bits as its template sees it: ``words`` are those of a row of outputs."""

    batch: int
    height: int
    words: int
    taps: int


class BitserialDepthwise(Protocol):
    """A problem of `bitserial_depthwise_conv2d`."""

    @property
    def depthwise_loops(self) -> BitserialDepthwiseLoops:
        """As the template sees it."""


@dataclass(frozen=True, kw_only=True)
class BitserialDepthwiseKnobs(KnobSet):
    """Knobs of the template: words of a vector, and output rows of a parallel task."""

    lanes: int
    rows: int

    @classmethod
    def space(cls, problem: BitserialDepthwise, machine: Machine) -> Iterator[Self]:
        """Any number of rows, in whole and half vectors."""
        for rows in range(1, problem.depthwise_loops.height + 1):
            for lanes in (machine.lanes, machine.lanes // 2):
                yield cls(lanes=lanes, rows=rows)

    @classmethod
    def default(cls, problem: BitserialDepthwise, machine: Machine) -> Self:
        """Whole vectors, and rows enough for a thread."""
        return cls(lanes=machine.lanes, rows=min(ROWS, problem.depthwise_loops.height))

    def cycles(self, problem: BitserialDepthwise, machine: Machine) -> float:
        """Of the whole batch, to numbers."""
        loops = problem.depthwise_loops
        vectors = loops.batch * loops.height * -(-loops.words // self.lanes)
        return machine.cycles(
            vectors * machine.vector_cost(self.lanes) * count_cost(loops.taps, machine) * WORD_BITS
        )


def count_cost(taps: int, machine: Machine) -> float:
    """To make the numbers of a vector of outputs, in multiply-adds of one.

    Fitted to 1×1, 3×3 and 5×5 on Zen 4: 12, 26 and 36 µs with AVX-512, and 17, 92 and 113 with AVX2 (64 channels,
    56 × 56), where a digit of 8 channels becomes numbers without masks.
    """
    return 2 + machine.digit_cost * taps.bit_length()


def _schedule_bitserial_depthwise(site: Site) -> None:
    """Schedule both forms.

    The anchor is a vector of decisions, or of every digit, in rows of whole vectors; stage ``rows`` holds one row of an
    output, which the last block makes the result of.
    """
    sch, counts, stages, knobs = site.sch, site.anchor, site.stages, site.knobs(BitserialDepthwiseKnobs)
    rows = stages["rows"]
    last = sch.get_consumers(rows)[0]
    n, y, *_ = sch.get_loops(last)
    task, row = sch.split(y, [None, knobs.rows])
    task = sch.fuse(n, task)
    symbolic, known = volume(sch, last)
    if symbolic or known >= site.machine.wake_cycles:
        sch.parallel(task)
    vectorize_innermost(sch, last, knobs.lanes)
    sch.compute_at(rows, row, preserve_unit_loops=True)
    *digits, words = sch.get_loops(rows)[4:]
    chunk, lane = sch.split(words, [None, knobs.lanes])
    sch.reorder(chunk, *digits, lane)
    sch.annotate(chunk, "pragma_loop_partition_hint", 1)
    sch.vectorize(lane)
    sch.compute_at(counts, chunk, preserve_unit_loops=True)
    sch.vectorize(sch.get_loops(counts)[-1])
    for block in (rows, counts):
        for digit in sch.get_loops(block)[-1 - len(digits) : -1]:
            sch.unroll(digit)
    for part in reversed([block for name, block in stages.items() if name.startswith("part")]):
        sch.compute_at(part, chunk, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(part)[-1])
    window = stages["window"]
    sch.compute_at(window, task, preserve_unit_loops=True)
    sch.annotate(sch.get_loops(window)[-2], "pragma_loop_partition_hint", 1)


register("llvm", ["bitserial_depthwise_conv2d"], Template(_schedule_bitserial_depthwise))
