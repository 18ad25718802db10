"""Knobs of `lookup_dense` on a GPU: how the lanes of a warp share rows, coefficients, and the items of a batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...gpu import WARP, Gpu
from ...knobs import KnobSet
from ...sparse_lists import ListedRows
from ..cpu.lookup_dense import SparseRowsProblem
from ..registry import Template, register
from .epilogue import join_epilogue
from .lookup import ENTRY_BYTES

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Self

GATHER_BYTES = 32
"""What L2 moves for one float that nobody beside wants."""

STEP_LATENCY = 600.0
"""Cycles of a step of a list: the entries come, then what they point to."""


@dataclass(frozen=True, kw_only=True)
class GpuLookupDenseKnobs(KnobSet):
    """Knobs of the sparse matrix product on a GPU.

    Attributes
    ----------
    images : int
        Lanes that have the same coefficient and other items of the batch; from 2 on the input is turned for them first.
    entries : int
        Lanes that have other coefficients of the same row, and add them up at last.
    pairs : int
        Pairs of coefficients that a lane reads before it uses the first.
    warps : int
        Of a block.
    """

    images: int
    entries: int
    pairs: int
    warps: int

    @property
    def step(self) -> int:
        """Entries of a row that are taken together."""
        return 2 * self.pairs * self.entries

    @property
    def rows(self) -> int:
        """Of a block."""
        return self.warps * (WARP // (self.images * self.entries))

    @property
    def threads(self) -> int:
        """Of a block."""
        return WARP * self.warps

    fuses_epilogues: ClassVar[bool] = True

    def lists(self, weight: np.ndarray) -> ListedRows:
        """A dense matrix (o, k) in the form that is read."""
        return ListedRows.of(weight, self.rows, self.step)

    @classmethod
    def space(cls, problem: SparseRowsProblem, machine: Gpu) -> Iterator[Self]:
        """Every way to share a warp; no more lanes for items than the next power of two has."""
        powers = (1, 2, 4, 8, 16, 32)
        for images, entries in itertools.product(powers, powers):
            if images * entries <= WARP and images < 2 * problem.batch:
                for pairs, warps in itertools.product((1, 2, 4), (2, 4, 8)):
                    yield cls(images=images, entries=entries, pairs=pairs, warps=warps)

    @classmethod
    def default(cls, problem: SparseRowsProblem, machine: Gpu) -> Self:
        """The least estimated cycles."""
        return min(
            cls.space(problem, machine), key=lambda knobs: (knobs.cycles(problem, machine), knobs.to_json())
        )

    def cycles(self, problem: SparseRowsProblem, machine: Gpu) -> float:
        """Of the whole batch."""
        mean = problem.nonzeros / problem.outputs
        steps = mean / self.step + 0.5
        padded = problem.outputs * steps * self.step
        parts = -(-problem.batch // self.images)
        blocks = -(-problem.outputs // self.rows) * parts
        resident = machine.threads // self.threads
        waves = -(-blocks // (machine.multiprocessors * resident))
        gathered = padded * parts * (GATHER_BYTES if self.images == 1 else max(GATHER_BYTES, 4 * self.images))
        read = ENTRY_BYTES * padded * parts
        alone = steps * STEP_LATENCY * (1 + self.pairs / 8) + 2 * STEP_LATENCY
        turned = 0.0
        if self.images > 1:
            moved = 8 * problem.batch * problem.inputs
            turned = machine.launch_cycles + moved / machine.cache_bytes_per_cycle
        through = (gathered + read) / machine.cache_bytes_per_cycle
        lists = ENTRY_BYTES * padded / machine.device_bytes_per_cycle
        return machine.launch_cycles + turned + max(waves * alone, through, lists)


register("cuda", ["lookup_dense"], Template(join_epilogue))
