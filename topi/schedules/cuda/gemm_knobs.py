"""Knobs of everything that is a matrix product on a GPU: tiles of blocks, of threads, and of the reduction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...knobs import KnobSet
from ...product_steps import NEIGHBOURS, Steps

if TYPE_CHECKING:
    from typing_extensions import Self

    from ...gpu import Gpu

VECTOR = 4
"""Neighbouring rows, and columns, of a thread: one 128-bit access."""

MOST_SLICES = 32
"""Of the terms: their partial sums pass through memory."""

FEWEST_THREADS = 64
"""Of a block: a single warp waits for every load, and ptxas gives it too few registers."""

MOST_STAGED = 24
"""Elements on their way: with more, registers spill."""

REGISTERS_BESIDE = 48
"""Of a thread, beside its sums and the fragments that it multiplies: addresses, and the tile on its way."""


@dataclass(frozen=True)
class GemmLoops:
    """A product as its cost model sees it: (rows, taps · depth) by (taps · depth, columns), ``batch`` times.

    ``input_bytes`` are those of the left side where it lies, before its elements are repeated; ``across`` of the taps
    are side by side.
    """

    batch: int
    rows: int
    columns: int
    taps: int
    depth: int
    input_bytes: int
    across: int = 1

    def steps(self, tile_k: int) -> Steps:
        """What `matrix_product` takes through its terms."""
        return Steps.of(self.taps, self.depth, tile_k, self.across)


class HasGemmLoops(Protocol):
    """A problem that is a matrix product."""

    @property
    def gemm_loops(self) -> GemmLoops | None:
        """As `GemmKnobs` sees it; ``None`` where it is no product."""


@dataclass(frozen=True, kw_only=True)
class GemmKnobs(KnobSet):
    """How a product is laid out.

    Attributes
    ----------
    tile_m, tile_o : int
        Rows and columns of a block.
    tile_k : int
        Terms that lie in shared memory at once.
    thread_m, thread_o : int
        Rows and columns of a thread, multiples of `VECTOR`.
    slices : int
        Parts of the reduction that blocks of their own sum up.
    """

    tile_m: int
    tile_o: int
    tile_k: int
    thread_m: int
    thread_o: int
    slices: int

    @property
    def panel(self) -> int:
        """Columns whose weights lie together."""
        return self.tile_o

    @property
    def threads(self) -> int:
        """Of a block."""
        return (self.tile_m // self.thread_m) * (self.tile_o // self.thread_o)

    @property
    def shared_bytes(self) -> int:
        """Of a block, one tile of each side: the next ones wait in registers."""
        return 4 * self.tile_k * (self.tile_m + VECTOR + self.tile_o)

    @property
    def staged(self) -> int:
        """Elements of a step that a thread holds while they are on their way."""
        return self.tile_k * (self.tile_m + self.tile_o) // self.threads

    @property
    def registers(self) -> int:
        """Of a thread."""
        return self.thread_m * self.thread_o + 2 * (self.thread_m + self.thread_o) + REGISTERS_BESIDE

    @classmethod
    def space(cls, problem: HasGemmLoops, machine: Gpu) -> Iterator[Self]:
        """Every tile that fits a block, with every number of slices, up to `MOST_SLICES`, of equally many steps."""
        loops = problem.gemm_loops
        if loops is None:
            return
        for tile_m, tile_o, tile_k, thread_m, thread_o in _tiles(loops):
            for slices in (n for n in range(1, MOST_SLICES + 1) if loops.steps(tile_k).count % n == 0):
                knobs = cls(
                    tile_m=tile_m,
                    tile_o=tile_o,
                    tile_k=tile_k,
                    thread_m=thread_m,
                    thread_o=thread_o,
                    slices=slices,
                )
                if knobs._fits(machine):
                    yield knobs

    @classmethod
    def default(cls, problem: HasGemmLoops, machine: Gpu) -> Self | None:
        """The tile of the least estimated cycles."""
        return min(
            cls.space(problem, machine), key=lambda knobs: knobs.cycles(problem, machine), default=None
        )

    def _fits(self, machine: Gpu) -> bool:
        return (
            FEWEST_THREADS <= self.threads <= 512
            and self.threads % 32 == 0
            and self.tile_k * self.tile_m % (VECTOR * self.threads) == 0
            and self.tile_k * self.tile_o % (VECTOR * self.threads) == 0
            and self.staged <= MOST_STAGED
            and self.registers * self.threads <= 65536
            and self.registers <= machine.registers
            and self.shared_bytes <= 48 * 1024
        )

    def resident(self, machine: Gpu) -> int:
        """Blocks that a multiprocessor holds at once."""
        by_registers = 65536 // (self.threads * -(-self.registers // 8) * 8)
        return max(
            1, min(by_registers, machine.threads // self.threads, machine.shared_bytes // self.shared_bytes)
        )

    def cycles(self, problem: HasGemmLoops, machine: Gpu) -> float:
        """Of the whole device: waves of blocks, each as long as its multiply-adds, loads or latencies take."""
        loops = problem.gemm_loops
        assert loops is not None, "only products have knobs"
        tiles = loops.batch * -(-loops.rows // self.tile_m) * -(-loops.columns // self.tile_o)
        in_steps = loops.steps(self.tile_k)
        blocks, steps = tiles * self.slices, in_steps.count // self.slices
        resident = min(self.resident(machine), -(-blocks // machine.multiprocessors))
        warps = resident * self.threads / 32
        # Multiply-adds, and the loads of their operands from shared memory: 128 bytes a cycle.
        multiply = MULTIPLY_ADD * self.tile_m * self.tile_o * self.tile_k / machine.fma_lanes
        if loops.taps > 1 and loops.depth % self.tile_k:
            alone = loops.depth % NEIGHBOURS != 0 and not in_steps.in_lines
            placed = SCALAR_LOAD if alone else SHARED_LOAD
            multiply += placed * self.tile_m * self.tile_k / machine.fma_lanes
        operands = (
            BROADCAST
            * (1 / self.thread_m + 1 / self.thread_o)
            * self.tile_m
            * self.tile_o
            * self.tile_k
            * 4
            / 128
        )
        busy = min(1.0, warps / 8)
        weight_bytes = 4 * loops.taps * loops.depth * loops.columns
        latency = STEP_LATENCY if weight_bytes <= machine.l2_bytes // 4 else MEMORY_STEP_LATENCY
        step = max(max(multiply, operands) * resident / busy, latency)
        waves = -(-blocks // (machine.multiprocessors * resident))
        compute = waves * (steps * step + BLOCK_LATENCY)
        out_bytes = 4 * loops.batch * loops.rows * loops.columns
        read = (
            4 * tiles * loops.taps * loops.depth * (self.tile_m + self.tile_o) / machine.cache_bytes_per_cycle
        )
        memory = (weight_bytes + loops.input_bytes + out_bytes) / machine.device_bytes_per_cycle
        # None hides behind another for good: blocks begin and end together.
        longest = max(compute, read, memory)
        total = (longest + compute + read + memory) / 2 + machine.launch_cycles
        if self.slices > 1:
            partial = 2 * self.slices * out_bytes
            total += partial / machine.cache_bytes_per_cycle + machine.launch_cycles + BLOCK_LATENCY
        return total


STEP_LATENCY, MEMORY_STEP_LATENCY = 730.0, 1800.0
"""Cycles of a step that waits for what it loads from L2, and from memory, at least. These and the next three were
fitted to 55 kernels on an H200."""

BLOCK_LATENCY = 5000.0
"""Of a kernel, before its first and behind its last step."""

BROADCAST = 0.6
"""Of the bytes that the lanes of a warp read of fragments, those that are not the same for several."""

MULTIPLY_ADD = 1.4
"""Of those that 64 sums of a thread take, in slots of the pipe: register banks collide."""

SCALAR_LOAD = 40.0
"""Slots that one element of the left side takes where its place has to be worked out alone."""

SHARED_LOAD = 6.0
"""The same where others share most of it: neighbouring channels, or taps of a line. Their instructions are 8 to 52."""


def _tiles(loops: GemmLoops) -> Iterator[tuple[int, int, int, int, int]]:
    """Tiles of block, reduction and thread; none far larger than the product."""
    for tile_m in (16, 32, 64, 128):
        for tile_o in (16, 32, 64, 128):
            too_large = (tile_m > 32 and tile_m >= 2 * loops.rows) or (
                tile_o > 32 and tile_o >= 2 * loops.columns
            )
            if too_large:
                continue
            for tile_k in (8, 16, 32):
                for thread_m in (4, 8):
                    for thread_o in (4, 8):
                        if math.gcd(tile_m, thread_m) == thread_m and math.gcd(tile_o, thread_o) == thread_o:
                            yield tile_m, tile_o, tile_k, thread_m, thread_o
