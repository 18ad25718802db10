"""Knobs of the product of signs on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from ...bits import WORD_BITS
from ...gpu import WARP, Gpu
from ...knobs import KnobSet
from ..registry import Template, leave, register
from .bitserial import POPCOUNTS, TENSOR_CORES

if TYPE_CHECKING:
    from typing_extensions import Self

LINE = 32
"""Words of a row that are copied to shared memory together: rows of packed signs are whole lines."""

TILES = (
    (256, 128, 64, 64), (128, 256, 64, 64), (128, 128, 64, 64), (128, 128, 64, 32), (128, 64, 32, 32), (64, 64, 32, 32),
    (64, 32, 32, 16), (32, 32, 16, 16),
)  # fmt: skip
"""Rows and columns of a block and of a warp of it, on tensor cores."""

THREAD_TILES = ((128, 128, 8, 8), (128, 64, 8, 4), (64, 64, 4, 4))
"""Rows and columns of a block and of a thread that counts differing bits: of 256 threads each."""

STAGES = (4, 3, 2)


LATENCY = 1000.0
"""Of a copy from L2, with those that are on their way before it."""

START_CYCLES, KERNELS, KERNEL_CYCLES = 500.0, 3, 2500.0
"""Of a block, once; packing and counting are kernels of their own, and each takes so long beside its work. These and
the next were fitted to 25 products on an H200, to 7 %."""

MMA_BUSY = 0.48
"""Of the tensor cores' rate, what sixteen warps of a multiprocessor reach."""

MANY_BLOCKS = 1 << 30
"""One for each tile."""

REGISTERS, OTHER_REGISTERS = 65536, 64
"""Of a multiprocessor, and of a thread beside its sums."""


class SignProduct(Protocol):
    """A product of (any number, inner) and (inner, columns)."""

    inner: int
    columns: int

    @property
    def operand_bytes(self) -> float:
        """Of each number or bit that is read."""


@dataclass(frozen=True, kw_only=True)
class XnorGemmGpuKnobs(KnobSet):
    """Knobs of the product.

    Attributes
    ----------
    unit : int
        What multiplies: `POPCOUNTS` or `TENSOR_CORES`.
    tile_m, tile_n : int
        Rows and columns of a block.
    part_m, part_n : int
        Of a warp on the tensor cores, of a thread otherwise.
    stages : int
        Steps of 1024 bits that are in shared memory or on their way.
    blocks : int
        That share the tiles, if there are more of those: each then computes one after the other.
    """

    unit: int
    tile_m: int
    tile_n: int
    part_m: int
    part_n: int
    stages: int
    blocks: int

    @property
    def tile_h(self) -> int:
        """Rows that those of a result are a multiple of."""
        return 1

    @property
    def threads(self) -> int:
        """Of a block."""
        parts = self.tile_m // self.part_m * (self.tile_n // self.part_n)
        return parts * (WARP if self.unit == TENSOR_CORES else 1)

    @property
    def shared_bytes(self) -> int:
        """Of a block."""
        return (self.tile_m + self.tile_n) * LINE * 4 * self.stages

    @classmethod
    def space(cls, _problem: SignProduct, machine: Gpu) -> Iterator[Self]:
        """Every tile that fits shared memory."""
        tiles = [(TENSOR_CORES, tile) for tile in TILES] if machine.arch >= 80 else []
        for unit, (tile_m, tile_n, part_m, part_n) in tiles + [(POPCOUNTS, tile) for tile in THREAD_TILES]:
            for stages in STAGES:
                sizes = {
                    "tile_m": tile_m,
                    "tile_n": tile_n,
                    "part_m": part_m,
                    "part_n": part_n,
                    "stages": stages,
                }
                knobs = cls(unit=unit, **sizes, blocks=MANY_BLOCKS)
                if knobs.shared_bytes <= machine.block_shared_bytes:
                    yield replace(knobs, blocks=machine.multiprocessors * knobs._resident(machine))
                    yield knobs

    @classmethod
    def default(cls, problem: SignProduct, machine: Gpu) -> Self:
        """Of equals, the first of the space."""
        return min(cls.space(problem, machine), key=lambda knobs: knobs.cycles(problem, machine))

    def cycles(self, problem: SignProduct, machine: Gpu) -> float:
        """Of packing and product, for as many rows as columns."""
        rows, steps = problem.columns, -(-problem.inner // (LINE * WORD_BITS))
        blocks = -(-rows // self.tile_m) * -(-problem.columns // self.tile_n)
        each = -(-blocks // machine.multiprocessors)
        together = min(self._resident(machine), each)
        waves = -(-each // together)
        step = max(together * self._step_cycles(machine, together), LATENCY / (self.stages - 1))
        stored = 4 * self.tile_m * self.tile_n * machine.multiprocessors / machine.cache_bytes_per_cycle
        product = waves * (together * stored + steps * step) + START_CYCLES * (
            waves if self.blocks == MANY_BLOCKS else 1
        )
        written = 4.0 * rows * problem.columns / machine.device_bytes_per_cycle
        read = machine.streaming_cycles(problem.operand_bytes * problem.inner * (rows + problem.columns))
        return product + written + read + KERNELS * KERNEL_CYCLES

    def _resident(self, machine: Gpu) -> int:
        """Blocks of a multiprocessor at once."""
        sums = self.part_m * self.part_n // (WARP if self.unit == TENSOR_CORES else 1)
        registers = REGISTERS // (self.threads * (OTHER_REGISTERS + sums))
        return max(1, min(machine.shared_bytes // (self.shared_bytes + 1024), registers))

    def _step_cycles(self, machine: Gpu, together: int) -> float:
        """Of a block: its products, or the copies of both sides from L2, beside others on its multiprocessor."""
        words = self.tile_m * self.tile_n * LINE
        copied = (self.tile_m + self.tile_n) * LINE * 4
        copying = copied * machine.multiprocessors / machine.cache_bytes_per_cycle
        if self.unit == POPCOUNTS:
            return max(copying, words / (machine.popcount_lanes * 0.9))
        # Sixteen warps hide each other's latencies better than eight.
        busy = MMA_BUSY * min(1.0, 0.8 + together * self.threads / WARP / 80)
        return max(copying, words * WORD_BITS / (machine.binary_mma * busy))


register("cuda", ["xnor_gemm", "xnor_gemm_packed"], Template(leave))
