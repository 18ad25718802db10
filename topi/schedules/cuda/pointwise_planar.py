"""Knobs of `pointwise_planar` on a GPU: a tile of planes times pixels for each block, in registers of its threads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...gpu import Gpu
from ...knobs import KnobSet

if TYPE_CHECKING:
    from typing_extensions import Self

VECTOR = 4
"""Neighbouring planes, and pixels, of a thread."""

STAGES = 3
"""Steps that are on their way or in use."""

MAX_THREADS = 512

COPY_CYCLES, MULTIPLY_FACTOR = 9.5, 1.36
"""A multiprocessor's cycles for 32 asynchronous copies, and how much longer multiply-adds take than alone. These
and what follows fit what a prototype took on an H100 to 11 %, products of benchmarks/results/h100_layers.json."""

STEP_LATENCY, BLOCK_LATENCY = 630.0, 2200.0
"""Cycles of a step, whatever it does; of a block, before its first and behind its last."""

BUSY_WARPS = 4
"""With which a multiprocessor is busy."""

LAUNCH_SECONDS = 0.5e-6
"""Beside those of any kernel."""


class Pointwise(Protocol):
    """A problem of `pointwise_planar`."""

    batch: int
    channels: int
    atoms: int

    @property
    def pixels(self) -> int:
        """Of a plane."""


@dataclass(frozen=True, kw_only=True)
class GpuPointwiseKnobs(KnobSet):
    """Knobs of the planar product on a GPU.

    Attributes
    ----------
    atoms, pixels : int
        Output planes and pixels of a block.
    depth : int
        Channels of a step.
    thread_atoms, thread_pixels : int
        Of a thread, multiples of `VECTOR`.
    slices : int
        Parts of the channels that groups of threads of the same block sum up.
    """

    atoms: int
    pixels: int
    depth: int
    thread_atoms: int
    thread_pixels: int
    slices: int

    @property
    def group(self) -> int:
        """Threads of one slice."""
        return self.atoms // self.thread_atoms * (self.pixels // self.thread_pixels)

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.group * self.slices

    @property
    def stage(self) -> int:
        """Floats of a step of one slice."""
        return self.depth * (self.atoms + self.pixels)

    @property
    def shared(self) -> int:
        """Floats of shared memory of a block: all steps, or what the slices hand over."""
        return max(STAGES * self.slices * self.stage, (self.slices - 1) * self.atoms * self.pixels)

    @property
    def registers(self) -> int:
        """Of a thread, roughly."""
        sums = self.thread_atoms * self.thread_pixels
        return sums + 2 * (self.thread_atoms + self.thread_pixels) + 40

    @classmethod
    def space(cls, problem: Pointwise, machine: Gpu) -> Iterator[Self]:
        """Every tile that is no far larger than the product."""
        count = problem.batch * problem.pixels
        tiles = itertools.product(
            (4, 8, 16, 32, 64, 128), (32, 64, 128, 256, 512), (4, 8, 16, 32), (4, 8), (4, 8)
        )
        for atoms, pixels, depth, thread_atoms, thread_pixels in tiles:
            if atoms % thread_atoms or atoms >= 2 * max(problem.atoms, 4) or pixels >= 2 * max(count, 32):
                continue
            if depth >= 2 * max(problem.channels, 4):
                continue
            for slices in (n for n in (1, 2, 4, 8) if (n - 1) * depth < problem.channels):
                knobs = cls(
                    atoms=atoms,
                    pixels=pixels,
                    depth=depth,
                    thread_atoms=thread_atoms,
                    thread_pixels=thread_pixels,
                    slices=slices,
                )
                if knobs._fits(machine):
                    yield knobs

    @classmethod
    def default(cls, problem: Pointwise, machine: Gpu) -> Self | None:
        """The tile with the least estimated cycles."""
        return min(
            cls.space(problem, machine),
            key=lambda knobs: (knobs.cycles(problem, machine), knobs.to_json()),
            default=None,
        )

    def _fits(self, machine: Gpu) -> bool:
        return (
            self.threads % 32 == 0
            and 64 <= self.threads <= MAX_THREADS
            and self.registers <= machine.registers
            and self.registers * self.threads <= 65536
            and 4 * self.shared <= min(machine.block_shared_bytes, 96 * 1024)
        )

    def cycles(self, problem: Pointwise, machine: Gpu) -> float:
        """Of the whole batch."""
        count = problem.batch * problem.pixels
        blocks = -(-problem.atoms // self.atoms) * -(-count // self.pixels)
        by_registers = 65536 // (self.threads * -(-self.registers // 8) * 8)
        by_shared = machine.shared_bytes // (4 * self.shared + 1024)
        resident = max(1, min(by_registers, by_shared, machine.threads // self.threads))
        waves, rest = divmod(blocks, machine.multiprocessors * resident)
        compute = waves * self._together(resident, problem, machine)
        if rest:
            compute += self._together(-(-rest // machine.multiprocessors), problem, machine)
        moved = 4 * count * (problem.channels + problem.atoms)
        stays = moved <= machine.l2_bytes // 3
        memory = moved / (machine.cache_bytes_per_cycle if stays else machine.device_bytes_per_cycle)
        return machine.launch_cycles + LAUNCH_SECONDS * machine.clock * 1e9 + max(compute, memory)

    def _together(self, blocks: int, problem: Pointwise, machine: Gpu) -> float:
        """Cycles of so many blocks at once on a multiprocessor."""
        busy = min(1.0, blocks * self.threads / 32 / BUSY_WARPS)
        multiply = self.slices * self.atoms * self.pixels * self.depth / machine.fma_lanes
        operands = multiply * machine.fma_lanes * (1 / self.thread_atoms + 1 / self.thread_pixels) * 4 / 128
        words = self.depth * self.pixels // (VECTOR if problem.pixels % VECTOR == 0 else 1)
        copies = self.slices * (words + self.depth * self.atoms // VECTOR) / 32 * COPY_CYCLES
        step = (max(multiply * MULTIPLY_FACTOR, operands) + copies) * blocks / busy
        steps = -(-problem.channels // (self.depth * self.slices))
        handed = 2 * (self.slices - 1) * self.atoms * self.pixels / 32 * blocks
        return steps * max(step, STEP_LATENCY) + handed + BLOCK_LATENCY
