"""Knobs of convolutions in TF32: tiles of blocks and of warps, steps through the terms, and slices of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...gpu import WARP, Gpu
from ...knobs import KnobSet
from .gemm_knobs import BLOCK_LATENCY, MEMORY_STEP_LATENCY, MOST_SLICES, STEP_LATENCY, GemmLoops
from .tf32_source import words_of

if TYPE_CHECKING:
    from typing_extensions import Self

TILES = (
    (128, 128, 64, 64), (128, 128, 64, 32), (128, 64, 64, 32),
    (64, 128, 32, 64), (128, 64, 32, 32), (64, 64, 32, 32), (64, 32, 32, 16), (32, 64, 16, 32), (32, 32, 16, 16),
    (16, 128, 16, 32), (16, 64, 16, 16),
)  # fmt: skip
"""Rows and columns of a block, and of a warp of it."""

STEP_TERMS, STAGES = (32, 16), (4, 3, 2)

PAD = 8
"""Behind each row of sums, so that those of eight rows that a warp stores together lie in different banks."""

MOST_SHARED = 99 * 1024
"""Bytes of shared memory that a block of every GPU with TF32 may have."""

MOST_HELD = 8
"""Pixels whose places a thread knows."""

FILE, OTHER_REGISTERS = 65536, 48
"""Registers of a multiprocessor, and those of a thread beside its sums, fragments and pixels."""

MMA_BUSY = 0.48
"""Of the tensor cores' rate, what products of signs reach, whose steps are the same."""

COPY_CYCLES, ROUND_CYCLES = 9.5, 3.0
"""A multiprocessor's cycles for 32 asynchronous copies, as `pointwise_planar` takes, and instructions for a rounding,
as ptxas writes it."""


class HasGemmLoops(Protocol):
    """A convolution that may be one matrix product."""

    @property
    def gemm_loops(self) -> GemmLoops | None:
        """As the cost model sees it; ``None`` where it is several products."""

    @property
    def is_channels_last(self) -> bool:
        """Whether the channels of a pixel are neighbours."""


@dataclass(frozen=True, kw_only=True)
class Tf32Knobs(KnobSet):
    """How a convolution in TF32 is laid out.

    Attributes
    ----------
    tile_m, tile_o : int
        Pixels and output channels of a block.
    tile_k : int
        Terms of a step.
    part_m, part_o : int
        Pixels and output channels of a warp.
    stages : int
        Steps that are in shared memory or on their way.
    slices : int
        Parts of the terms that blocks of their own sum up.
    """

    tile_m: int
    tile_o: int
    tile_k: int
    part_m: int
    part_o: int
    stages: int
    slices: int

    @property
    def panel(self) -> int:
        """Output channels whose weights lie together."""
        return self.tile_o

    @property
    def threads(self) -> int:
        """Of a block."""
        return WARP * (self.tile_m // self.part_m) * (self.tile_o // self.part_o)

    @property
    def pitch(self) -> int:
        """Floats from a row of sums to the next."""
        return self.tile_o + PAD

    @property
    def room(self) -> int:
        """Rows of sums that shared memory has room for: where the sums lie, the steps lay."""
        steps = self.stages * self.tile_k * (self.tile_m + self.tile_o)
        return max(self.tile_m, -(-steps // self.pitch))

    @property
    def shared_bytes(self) -> int:
        """Of a block."""
        return 4 * self.room * self.pitch

    @property
    def sizes(self) -> dict[str, int]:
        """By their names in the source."""
        names = ("tile_m", "tile_o", "tile_k", "part_m", "part_o", "stages", "threads", "pitch")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def space(cls, problem: HasGemmLoops, machine: Gpu) -> Iterator[Self]:
        """Every tile that is no far larger than the product, with every number of slices of equally many steps."""
        loops = problem.gemm_loops
        if loops is None or not problem.is_channels_last or not machine.has_tf32:
            return
        for tile_m, tile_o, part_m, part_o in TILES:
            if _is_too_large(tile_m, loops.rows) or _is_too_large(tile_o, loops.columns):
                continue
            for tile_k in STEP_TERMS:
                steps = _steps(loops, tile_k)
                for stages in STAGES:
                    for slices in (n for n in range(1, MOST_SLICES + 1) if steps % n == 0):
                        knobs = cls(
                            tile_m=tile_m,
                            tile_o=tile_o,
                            tile_k=tile_k,
                            part_m=part_m,
                            part_o=part_o,
                            stages=stages,
                            slices=slices,
                        )
                        if knobs._fits(loops, machine):
                            yield knobs

    @classmethod
    def default(cls, problem: HasGemmLoops, machine: Gpu) -> Self | None:
        """Of equals, the first of the space."""
        return min(
            cls.space(problem, machine), key=lambda knobs: knobs.cycles(problem, machine), default=None
        )

    def _fits(self, loops: GemmLoops, machine: Gpu) -> bool:
        """Whether the threads of a block share its copies evenly, and it fits a multiprocessor."""
        pieces = self.tile_k // words_of(loops.depth)
        rows = self.threads // pieces
        return (
            self.threads % pieces == 0
            and rows % 2 == 0
            and self.tile_m % rows == 0
            and self.tile_m // rows <= MOST_HELD
            and self.tile_o * self.tile_k % (4 * self.threads) == 0
            and self._registers(loops) <= machine.registers
            and self.shared_bytes <= MOST_SHARED
        )

    def _registers(self, loops: GemmLoops) -> int:
        """Of a thread, roughly."""
        held = self.tile_m * self.tile_k // words_of(loops.depth) // self.threads
        return self.part_m * self.part_o // WARP + self.part_o // 2 + 4 * held + OTHER_REGISTERS

    def _resident(self, loops: GemmLoops, machine: Gpu) -> int:
        """Blocks of a multiprocessor at once."""
        registers = FILE // (self.threads * -(-self._registers(loops) // 8) * 8)
        shared = machine.shared_bytes // (self.shared_bytes + 1024)
        return max(1, min(registers, shared, machine.threads // self.threads))

    def cycles(self, problem: HasGemmLoops, machine: Gpu) -> float:
        """Of the whole device, as `GemmKnobs` counts them: waves of blocks, bytes from L2 and from memory."""
        loops = problem.gemm_loops
        assert loops is not None, "only products have knobs"
        tiles = -(-loops.rows // self.tile_m) * -(-loops.columns // self.tile_o)
        blocks, steps = tiles * self.slices, _steps(loops, self.tile_k) // self.slices
        resident = min(self._resident(loops, machine), -(-blocks // machine.multiprocessors))
        weight_bytes = 4 * loops.taps * loops.depth * loops.columns
        latency = STEP_LATENCY if weight_bytes <= machine.l2_bytes // 4 else MEMORY_STEP_LATENCY
        step = max(resident * self._step_cycles(loops, machine), latency / (self.stages - 1))
        waves = -(-blocks // (machine.multiprocessors * resident))
        compute = waves * (steps * step + BLOCK_LATENCY)
        out_bytes = 4 * loops.rows * loops.columns
        step_bytes = 4 * self.tile_k * (self.tile_m + self.tile_o)
        read = blocks * steps * step_bytes / machine.cache_bytes_per_cycle
        memory = (weight_bytes + loops.input_bytes + out_bytes) / machine.device_bytes_per_cycle
        # None hides behind another for good: blocks begin and end together.
        total = (max(compute, read, memory) + compute + read + memory) / 2 + machine.launch_cycles
        if self.slices > 1:
            partial = 2 * self.slices * out_bytes
            total += partial / machine.cache_bytes_per_cycle + machine.launch_cycles + BLOCK_LATENCY
        return total

    def _step_cycles(self, loops: GemmLoops, machine: Gpu) -> float:
        """Of a block: its products, what its warps read from shared memory, or what they issue beside."""
        warps = self.threads // WARP
        multiply = self.tile_m * self.tile_o * self.tile_k / (machine.tf32_mma * MMA_BUSY)
        operands = warps * (self.part_m + self.part_o) * self.tile_k * 4 / 128
        copies = self.tile_k * (self.tile_m // words_of(loops.depth) + self.tile_o // 4) / WARP * COPY_CYCLES
        rounding = warps * self.part_m * self.tile_k / WARP * ROUND_CYCLES / 4
        return max(multiply, operands, copies + rounding)


def _steps(loops: GemmLoops, tile_k: int) -> int:
    """Of all slices: all terms stand in one row."""
    return -(-loops.taps * loops.depth // tile_k)


def _is_too_large(tile: int, size: int) -> bool:
    return tile > 32 and tile >= 2 * size
