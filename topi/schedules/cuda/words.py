"""Schedules of what is computed word by word: packing of NHWC, pooling of packed bits, depthwise convolutions of bits.

A word is packed by the lanes of a warp, each of which decides one of its bits: they read neighbouring channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ...bits import WORD_BITS
from ...gpu import WARP, Gpu
from ...knobs import KnobSet
from ..registry import Site, Template, register
from .ballot import by_ballot
from .generic import bind_flat

if TYPE_CHECKING:
    from typing_extensions import Self

WORD_BYTES = 4

INSTRUCTIONS = 100
"""Of threads, for each operation of a problem: a word takes six, or two for each tap of a window."""

OPERATIONS_PER_TAP = 20
"""Instructions to find a word under a window, and to add its bits to the digits."""


class Words(Protocol):
    """A problem whose result is ``height`` rows of words in each of ``batch`` planes."""

    batch: int
    height: int

    @property
    def operations(self) -> float:
        """Of a row, on vectors of sixteen or on words."""


class DepthwiseLoops(Protocol):
    """Sizes of a depthwise convolution of bits, ``words`` those of a row of outputs."""

    batch: int
    height: int
    words: int
    taps: int


class DepthwiseWords(Protocol):
    """A problem of `bitserial_depthwise_conv2d`."""

    packed: bool

    @property
    def depthwise_loops(self) -> DepthwiseLoops:
        """Its sizes."""


@dataclass(frozen=True, kw_only=True)
class WordKnobs(KnobSet):
    """``threads`` of a block."""

    threads: int

    @classmethod
    def space(cls, _problem: Words, _machine: Gpu) -> Iterator[Self]:
        """Whole warps."""
        for warps in (8, 4, 2, 16, 1):
            yield cls(threads=WARP * warps)

    @classmethod
    def default(cls, problem: Words, machine: Gpu) -> Self:
        """The first of the space."""
        return next(cls.space(problem, machine))

    def cycles(self, problem: Words, machine: Gpu) -> float:
        """Of the instructions of all threads, which take longer than memory."""
        lanes = machine.fma_lanes * machine.multiprocessors
        return (
            problem.batch * problem.height * problem.operations * INSTRUCTIONS / lanes + machine.launch_cycles
        )


@dataclass(frozen=True, kw_only=True)
class DepthwiseWordKnobs(KnobSet):
    """``threads`` of a block, each of which counts the bits of one word."""

    threads: int

    @property
    def lanes(self) -> int:
        """Words of a thread."""
        return 1

    @classmethod
    def space(cls, _problem: DepthwiseWords, _machine: Gpu) -> Iterator[Self]:
        """Whole warps."""
        for warps in (8, 4, 2):
            yield cls(threads=WARP * warps)

    @classmethod
    def default(cls, problem: DepthwiseWords, machine: Gpu) -> Self:
        """The first of the space."""
        return next(cls.space(problem, machine))

    def cycles(self, problem: DepthwiseWords, machine: Gpu) -> float:
        """To write numbers, or to read and count the words of every tap."""
        loops = problem.depthwise_loops
        words = loops.batch * loops.height * loops.words
        lanes = machine.fma_lanes * machine.multiprocessors
        written = words * WORD_BYTES * (1 if problem.packed else WORD_BITS)
        counting = words * loops.taps * OPERATIONS_PER_TAP / lanes
        return max(counting, machine.passing_cycles(written) / 2) + machine.launch_cycles


def _schedule_bitpack(site: Site) -> None:
    """A warp packs a word."""
    sch, pack, threads = site.sch, site.anchor, site.knobs(WordKnobs).threads
    if (prepared := site.stages.get("prepared")) is not None:
        sch.compute_inline(prepared)
    by_ballot(sch, pack)
    bind_flat(sch, sch.get_loops(pack), threads)


def _schedule_bit_pool(site: Site) -> None:
    """A thread for each word."""
    bind_flat(site.sch, site.sch.get_loops(site.last), site.knobs(WordKnobs).threads)


def _schedule_depthwise(site: Site) -> None:
    """A thread counts the bits of a word; numbers are made of its digits by other threads, by way of shared memory."""
    sch, rows, threads = site.sch, site.stages["rows"], site.knobs(DepthwiseWordKnobs).threads
    last = sch.get_consumers(rows)[0]
    if len(sch.get_loops(rows)) == 3:
        bind_flat(sch, sch.get_loops(last), threads)
        thread = sch.get_loops(last)[-1]
        sch.compute_at(rows, thread, preserve_unit_loops=True)
        sch.set_scope(rows, 0, "local")
    else:
        thread = _share_digits(sch, rows, last, threads)
    sch.compute_at(site.anchor, thread, preserve_unit_loops=True)
    sch.set_scope(site.anchor, 0, "local")
    for name, part in reversed(site.stages.items()):
        if name.startswith("part"):
            sch.compute_at(part, thread, preserve_unit_loops=True)
            sch.set_scope(part, 0, "local")
    sch.compute_inline(site.stages["window"])


def _share_digits(sch: Schedule, rows: SBlockRV, last: SBlockRV, threads: int) -> LoopRV:
    """Lay out the numbers ``last`` and the digits ``rows`` of some columns; returns the loop over words."""
    n, y, x, channel = sch.get_loops(last)
    words = -(-int(sch.get(channel).extent) // WORD_BITS)
    column, within = sch.split(x, [None, max(1, threads // words)])
    block = sch.fuse(n, y, column)
    sch.bind(block, "blockIdx.x")
    _, thread = sch.split(sch.fuse(within, channel), [None, threads])
    sch.bind(thread, "threadIdx.x")
    sch.compute_at(rows, block, preserve_unit_loops=True)
    sch.set_scope(rows, 0, "shared")
    digit, word = sch.get_loops(rows)[-2:]
    sch.reorder(word, digit)
    sch.unroll(digit)
    _, word = sch.split(word, [None, threads])
    sch.bind(word, "threadIdx.x")
    return word


register("cuda", ["bitpack"], Template(_schedule_bitpack))
register("cuda", ["bit_max_pool2d"], Template(_schedule_bit_pool))
register("cuda", ["bitserial_depthwise_conv2d"], Template(_schedule_depthwise))
