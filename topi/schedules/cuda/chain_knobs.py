"""Knobs of a depthwise convolution or fixed stencils and the 1×1 convolution behind, as one kernel of a GPU."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...gpu import WARP, Gpu
from ...knobs import KnobSet
from .window import EACH_LOAD, FIXED, LATENCY

if TYPE_CHECKING:
    from typing_extensions import Self

VECTOR = 4
"""Neighbouring channels that a thread computes and reads together."""

SHARED_BYTES = 48 * 1024
"""That a block may have without asking for more."""

REGISTER_FILE = 64 * 1024
"""Registers of a multiprocessor."""

REGISTERS_BESIDE, SLACK = 44, 8
"""Registers of a thread beside its sums and what it multiplies; what ptxas does without where they are too many."""

MAX_REGISTERS = 200
"""Of a thread: more would leave too few threads to hide a latency."""

PRODUCT_COST = 1.9
"""Cycles of a multiply-add of the product: operands that share a bank of registers, and loops."""

THREADS = (32, 512)
"""Of a block, fewest and most."""

SLICES = (4, 8, 16, 32, 64)
OUTPUTS = (32, 64, 128, 256, 512)


@dataclass(frozen=True, kw_only=True)
class GpuChainKnobs(KnobSet):
    """How both stages are laid out; each carries them all.

    Attributes
    ----------
    any_batch, most_stages
        As for `ChainKnobs`.
    thread_h, thread_o : int
        Pixels, one below the other, and outputs of a thread in the product.
    groups_h : int
        Threads below each other in a block.
    tile_w : int
        Pixels of a block side by side.
    tile_o : int
        Outputs of a block.
    slice_c : int
        Channels of the input that are between the stages at once, by all their kernels.
    run : int
        Pixels side by side of a thread in the first stage.
    """

    any_batch: ClassVar[bool] = True
    most_stages: ClassVar[int] = 2

    thread_h: int
    thread_o: int
    groups_h: int
    tile_w: int
    tile_o: int
    slice_c: int
    run: int

    @property
    def stages(self) -> tuple[Self, Self]:
        """What each operator is given."""
        return self, self

    @property
    def panel(self) -> int:
        """Outputs whose weights lie together."""
        return self.tile_o

    @property
    def tile_h(self) -> int:
        """Rows of a block."""
        return self.thread_h * self.groups_h

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.groups_h * self.tile_w * self.tile_o // self.thread_o

    def registers(self, first: Any) -> int:
        """Of a thread: its sums, beside them what it multiplies, or what it makes of ``first`` and from what."""
        multiplied = self.thread_h * VECTOR + self.thread_o
        if not _is_windowed(first):
            return self.thread_h * self.thread_o + multiplied + REGISTERS_BESIDE
        loops = first.window_loops
        rows, columns = loops.seen(1, self.run)
        held = columns + loops.kernel[1] if loops.additions is None else rows * columns
        made = VECTOR * (self.run * loops.channels // first.channels + held)
        return self.thread_h * self.thread_o + max(multiplied, made) + REGISTERS_BESIDE

    @property
    def most_registers(self) -> int:
        """That a thread may have: they are handed out to four warps at a time."""
        return REGISTER_FILE // (-(-self.threads // (4 * WARP)) * 4 * WARP)

    def round_up(self, height: int, width: int) -> tuple[int, int]:
        """Height and width rounded up to whole blocks."""
        return -(-height // self.tile_h) * self.tile_h, -(-width // self.tile_w) * self.tile_w

    def shared_bytes(self, kernels: int) -> int:
        """What lies between the stages, and weights of one kernel of each channel."""
        between = self.tile_h * self.tile_w * (self.slice_c * kernels + VECTOR)
        return 4 * (between + self.slice_c * self.tile_o)

    @classmethod
    def space(cls, problem: Any, machine: Gpu) -> Iterator[Self]:
        """Every legal value; none where it is another chain, or its channels are no vectors."""
        if not _is_fused_pair(problem):
            return
        first, last = problem.stages
        (height, width), outputs = last.output_size, last.conv.out_channels
        slices = [n for n in SLICES if first.channels % n == 0]
        widths = sorted({n for n in (4, 7, 8, 14, 16) if n <= width} | ({width} if width <= 16 else set()))
        tiles_o = [n for n in OUTPUTS if n < 2 * outputs] or [OUTPUTS[0]]
        for thread_h, groups_h, tile_w, tile_o, thread_o, slice_c, run in itertools.product(
            (4, 7, 8), (1, 2, 4), widths, tiles_o, (4, 8), slices, (1, 2, 4)
        ):
            knobs = cls(
                thread_h=thread_h,
                thread_o=thread_o,
                groups_h=groups_h,
                tile_w=tile_w,
                tile_o=tile_o,
                slice_c=slice_c,
                run=run,
            )
            if knobs._fits(first, height, width):
                yield knobs

    def _fits(self, first: Any, height: int, width: int) -> bool:
        rows, columns = self.round_up(height, width)
        kernels = first.conv.out_channels // first.channels
        return (
            THREADS[0] <= self.threads <= THREADS[1]
            and self.threads % WARP == 0
            and self.tile_w % self.run == 0
            and self.registers(first) <= min(MAX_REGISTERS, self.most_registers + SLACK)
            and self.shared_bytes(kernels) <= SHARED_BYTES
            and (rows * columns <= 1.5 * height * width or self.tile_h <= 4)
        )

    @classmethod
    def default(cls, problem: Any, machine: Gpu) -> Self | None:
        """The fewest estimated cycles; ``None`` where there are no knobs."""
        return min(
            cls.space(problem, machine), key=lambda knobs: knobs.cycles(problem, machine), default=None
        )

    def cycles(self, problem: Any, machine: Gpu) -> float:
        """Of the whole batch, all multiprocessors together; of one stage, its share of the work alone."""
        stages = getattr(problem, "stages", (problem,))
        first, last = stages[0], stages[-1]
        rows, columns = self.round_up(*last.output_size)
        patches = last.batch * rows * columns // (self.tile_h * self.tile_w)
        blocks = patches * -(-stages[-1].conv.out_channels // self.tile_o)
        work = (self._first_work(first) if _is_windowed(first) else 0.0) + (
            0.0 if _is_windowed(last) else self._product_work(last)
        )
        shared = self.shared_bytes(last.channels // first.channels)
        resident = min(
            max(1, self.most_registers // self.registers(first)),
            machine.threads // self.threads,
            machine.shared_bytes // shared,
        )
        turns = -(-blocks // machine.multiprocessors)
        together = min(resident, turns)
        # What a block waits for, others hide that run beside it.
        waits = (first.channels // self.slice_c) * LATENCY / together
        idle = max(1.0, 8 * WARP / (self.threads * together))
        issued = turns * (work * idle / machine.fma_lanes + waits)
        seen = math.prod(first.window_loops.seen(self.tile_h, self.tile_w)) if _is_windowed(first) else 0
        stored = 4 * last.batch * math.prod(last.output_size) * last.conv.out_channels
        weights = 4 * last.channels * self.tile_o
        cached = (blocks * (4 * seen * first.channels + weights) + stored) / machine.cache_bytes_per_cycle
        read = 4 * first.batch * first.height * first.width * first.channels
        streamed = (read + stored) / machine.device_bytes_per_cycle
        return machine.launch_cycles + LATENCY + math.hypot(issued, cached, streamed)

    def _first_work(self, stage: Any) -> float:
        """Instructions of a block's lanes in the first stage."""
        loops = stage.window_loops
        kernels = loops.channels // stage.channels
        items = self.tile_h * self.tile_w * stage.channels / (self.run * VECTOR)
        loads = loops.kernel[0] * loops.seen(1, self.run)[1]
        sums = kernels * (loops.taps if loops.additions is None else loops.additions)
        each = FIXED / 2 + EACH_LOAD * loads + loops.taps + self.run * (VECTOR * sums + 3 * kernels)
        rounds = items / self.threads / (stage.channels // self.slice_c)
        return items * each * math.ceil(rounds) / rounds

    def _product_work(self, stage: Any) -> float:
        """The same in the product: multiply-adds and loads of vectors, or what shared memory hands out meanwhile."""
        issued = PRODUCT_COST + (1 / self.thread_h + 1 / self.thread_o) / VECTOR
        side_by_side = min(WARP, self.tile_o // self.thread_o)
        handed = side_by_side / (2 * VECTOR * self.thread_h) + 1 / self.thread_o
        sums = self.tile_h * self.tile_w * max(issued, PRODUCT_COST * handed)
        return self.tile_o * stage.channels * (sums + EACH_LOAD / 2)


def _is_windowed(stage: Any) -> bool:
    return hasattr(stage, "window_loops")


def _is_fused_pair(problem: Any) -> bool:
    """Whether it is a window over each channel, then a product."""
    if len(problem.stages) != 2:
        return False
    first, last = problem.stages
    conv = last.conv
    plain = (conv.kernel, conv.stride, conv.input_dilation) == ((1, 1),) * 3 and not any(conv.padding)
    layouts = {first.conv.data_layout, conv.data_layout}
    pair = _is_windowed(first) and not _is_windowed(last) and conv.groups == 1 and plain
    return pair and layouts == {"NHWC"} and first.channels % VECTOR == 0
