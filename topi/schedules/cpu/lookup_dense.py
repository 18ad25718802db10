"""Knobs of `lookup_dense`, which is written as loops already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from ...knobs import KnobSet
from ...machine import Machine
from ...sparse_lists import SparseRows
from ..registry import Template, leave, register
from .lookup import ENTRY_BYTES

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Self

MAX_CHUNKS, FULL_VECTORS = 8, 4
"""Parts of the outputs for parallelism, and how many vectors of them make a part worth having."""

SMALLEST_BLOCK = 512


class SparseRowsProblem(Protocol):
    """A problem of `lookup_dense`: ``batch`` rows of ``inputs``, ``outputs`` with ``nonzeros`` coefficients."""

    batch: int
    inputs: int
    outputs: int
    nonzeros: int


@dataclass(frozen=True, kw_only=True)
class LookupDenseKnobs(KnobSet):
    """Knobs of the sparse matrix product.

    Attributes
    ----------
    lanes : int
        Outputs of a vector.
    chunks : int
        Equal parts of the outputs, for parallelism.
    block : int
        Inputs that stay in L1 while the lists of all outputs of a chunk pass by.
    """

    lanes: int
    chunks: int
    block: int

    fuses_epilogues: ClassVar[bool] = False

    def lists(self, weight: np.ndarray) -> SparseRows:
        """A dense matrix (o, k) in the form that is read."""
        return SparseRows.of(weight, self)

    @classmethod
    def space(cls, problem: SparseRowsProblem, machine: Machine) -> Iterator[Self]:
        """Whole and half vectors, every division of the outputs, blocks of the default's size times powers of two."""
        blocks = {cls._block(machine)}
        while min(blocks) > SMALLEST_BLOCK:
            blocks.add(min(blocks) // 2)
        while max(blocks) < problem.inputs:
            blocks.add(2 * max(blocks))
        for lanes in (machine.lanes, machine.lanes // 2):
            for chunks in (n for n in range(1, MAX_CHUNKS + 1) if problem.outputs % n == 0):
                for block in sorted(blocks):
                    yield cls(lanes=lanes, chunks=chunks, block=block)

    @classmethod
    def default(cls, problem: SparseRowsProblem, machine: Machine) -> Self:
        """Whole vectors; as many chunks as have enough of them."""
        lanes, outputs = machine.lanes, problem.outputs
        worth = [
            n for n in range(1, MAX_CHUNKS + 1) if outputs % n == 0 and outputs >= n * FULL_VECTORS * lanes
        ]
        return cls(lanes=lanes, chunks=max(worth, default=1), block=cls._block(machine))

    def cycles(self, problem: SparseRowsProblem, machine: Machine) -> float:
        """Of the whole batch, with the coefficients from where they lie between two inferences."""
        sums = machine.product_cycles * problem.nonzeros + machine.output_cycles * problem.outputs
        return problem.batch * max(sums, machine.streaming_cycles(ENTRY_BYTES * problem.nonzeros))

    @staticmethod
    def _block(machine: Machine) -> int:
        return machine.block_bytes // 4


register("llvm", ["lookup_dense"], Template(leave))
