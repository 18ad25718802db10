"""Schedule of sparse convolution on a GPU: knobs, what they cost, and the epilogue at the threads that sum.

A lane is a pixel of a `Stack`, a warp some filters: every step of a filter's list, two offsets and coefficients, is
read by all lanes at once, and used for all of their pixels. The planes lie in shared memory with their border, as many
channels of them as fit, beside the lists; each product takes one word of it, which is what bounds the whole.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ...gpu import WARP, Gpu
from ...knobs import KnobSet
from ...sparse_lists import ListedFilters, Stack
from ..registry import Template, register
from .epilogue import join_epilogue

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Self

    from ...conv2d import Conv2dParams

ENTRY_BYTES = 8
"""An offset and a coefficient."""

RESERVED_SHARED = 1024
"""Of every block, for the system."""

COPY_CYCLES, WORD_CYCLES, VISIT_CYCLES = 7.5, 1.22, 34.0
"""A multiprocessor's: for 32 copies of one word, 32 products, and each list that a warp begins. These and what follows
fit what a prototype of these loops took on an H100 to 12 %, layers and tiles of benchmarks/results/h100_layers.json;
but its lists lay in L2."""

STEP_CYCLES = 1.0
"""A multiprocessor's, to read a step of a list."""

FILL_LATENCY, COPY_LATENCY = 250.0, 8.0
"""Cycles that a block waits for its planes, and for each copy of a warp."""

NEAR_LATENCY, FAR_LATENCY = (300.0, 80.0), (650.0, 220.0)
"""Cycles of a list's beginning and of a step of it, if nothing else is to be done, from shared memory and from L2."""

LAUNCH_SECONDS = 1.5e-6
"""Beside those of any kernel: indices, and what is stored."""


class Sparse(Protocol):
    """A problem of `lookup_conv2d`."""

    batch: int
    height: int
    width: int
    channels: int
    conv: Conv2dParams
    nonzeros: int


@dataclass(frozen=True, kw_only=True)
class GpuLookupKnobs(KnobSet):
    """Knobs of the sparse convolution on a GPU.

    Attributes
    ----------
    pixels, filters : int
        Sums of a thread, along each.
    warps, beside : int
        Of a block, and how many of them have the same filters and other pixels.
    block : int
        Channels that lie in shared memory at once.
    columns : int
        Parts of an output row, where it has more pixels than a block has lanes.
    listed : int
        Steps of lists for which there is room in shared memory; where they are longer, all are read where they are.
    """

    pixels: int
    filters: int
    warps: int
    beside: int
    block: int
    columns: int
    listed: int

    @property
    def lanes(self) -> int:
        """Pixels of a block."""
        return WARP * self.pixels * self.beside

    @property
    def block_filters(self) -> int:
        """Filters of a block."""
        return self.filters * (self.warps // self.beside)

    @property
    def threads(self) -> int:
        """Of a block."""
        return WARP * self.warps

    def registers(self, stack: Stack) -> int:
        """Of a thread, roughly: where lanes and places differ, each pixel has an address of its own."""
        addresses = 2 * self.pixels + 30 if stack.is_strided else self.pixels + 24
        return self.pixels * self.filters + addresses

    def stack(self, params: Conv2dParams, height: int, width: int) -> Stack:
        """The planes as the blocks read them."""
        return Stack.of(params, height, width, self.lanes, self.columns)

    def lists(self, weight: np.ndarray, params: Conv2dParams, size: tuple[int, int, int]) -> ListedFilters:
        """Dense weights in the form that is read, for planes of ``size``, (c, h, w)."""
        return ListedFilters.of(weight, params, self.stack(params, *size[1:]), self.block, self.block_filters)

    @classmethod
    def space(cls, problem: Sparse, machine: Gpu) -> Iterator[Self]:
        """Every tile whose rows and channels fit a block."""
        _, ow = problem.conv.output_size(problem.height, problem.width)
        for pixels, filters, warps in itertools.product((1, 2, 4, 8), (1, 2, 4, 8), (4, 8, 16)):
            for beside in (n for n in (1, 2, 4, 8, 16) if n <= warps):
                columns = 1
                while columns <= ow:
                    whole = cls(
                        pixels=pixels,
                        filters=filters,
                        warps=warps,
                        beside=beside,
                        block=1,
                        columns=columns,
                        listed=1,
                    )
                    if whole.stack(problem.conv, problem.height, problem.width).rows:
                        yield from whole._blocks(problem, machine)
                        break
                    columns += 1

    @classmethod
    def default(cls, problem: Sparse, machine: Gpu) -> Self | None:
        """The tile with the least estimated cycles."""
        return min(
            cls.space(problem, machine),
            key=lambda knobs: (knobs.cycles(problem, machine), knobs.to_json()),
            default=None,
        )

    def cycles(self, problem: Sparse, machine: Gpu) -> float:
        """Of the whole batch."""
        conv = problem.conv
        oh, ow = conv.output_size(problem.height, problem.width)
        stack = self.stack(conv, problem.height, problem.width)
        groups, chunks = -(-conv.out_channels // self.block_filters), -(-problem.channels // self.block)
        rows = (problem.batch - 1) * stack.period + oh
        blocks = -(-rows // stack.rows) * self.columns * groups
        steps = problem.nonzeros / conv.out_channels / 2 + 0.5 * chunks
        # Columns that lie apart are copied from as many lines.
        copies = problem.channels * -(-stack.plane // WARP) * (1 + conv.stride[1]) / 2
        lists = self.warps * self.filters
        each_step = 2 * self.pixels * WORD_CYCLES + STEP_CYCLES
        busy = copies * COPY_CYCLES + lists * (steps * each_step + VISIT_CYCLES * chunks)
        visit, step = NEAR_LATENCY if self.listed > 1 else FAR_LATENCY
        alone = FILL_LATENCY * chunks + copies / self.warps * COPY_LATENCY
        alone += self.filters * (visit * chunks + step * steps)
        resident = self._resident(stack, machine)
        waves, rest = divmod(blocks, machine.multiprocessors * resident)
        compute = waves * max(resident * busy, alone)
        if rest:
            compute += max(-(-rest // machine.multiprocessors) * busy, alone)
        moved = 4 * blocks * problem.channels * stack.plane + 4 * problem.batch * conv.out_channels * oh * ow
        launch = machine.launch_cycles + LAUNCH_SECONDS * machine.clock * 1e9
        return launch + max(compute, moved / machine.cache_bytes_per_cycle)

    def _blocks(self, problem: Sparse, machine: Gpu) -> Iterator[Self]:
        """The same tile with as many channels as fit all, half, a third, ... of what shared memory there is."""
        stack = self.stack(problem.conv, problem.height, problem.width)
        seen = set()
        for shares in range(1, 9):
            room = min(machine.block_shared_bytes, machine.shared_bytes // shares - RESERVED_SHARED)
            most = min(room // 4 // stack.plane, problem.channels)
            while most and 4 * stack.size(most) + 16 * (self._listed(problem, most) + 1) > room:
                most -= 1
            if not most:
                continue
            chunks = -(-problem.channels // most)
            block = -(-problem.channels // chunks)
            if block not in seen:
                seen.add(block)
                yield replace(self, block=block, listed=self._listed(problem, block))

    def _listed(self, problem: Sparse, block: int) -> int:
        """Steps of the lists over ``block`` channels, with room for lists that are longer than others."""
        mean = problem.nonzeros / problem.conv.out_channels * self.block_filters * block / problem.channels
        return round(mean / 2 + self.block_filters / 2 + 3 * math.sqrt(mean)) + 8

    def _resident(self, stack: Stack, machine: Gpu) -> int:
        """Blocks that a multiprocessor holds at once."""
        by_registers = 65536 // (self.threads * -(-self.registers(stack) // 8) * 8)
        by_shared = machine.shared_bytes // (
            4 * stack.size(self.block) + 16 * (self.listed + 1) + RESERVED_SHARED
        )
        return max(1, min(by_registers, by_shared, machine.threads // self.threads))


register("cuda", ["lookup_conv2d"], Template(join_epilogue))
