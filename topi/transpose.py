"""Exchange of two groups of neighbouring axes, as between NCHW and NHWC, square tile by square tile in registers.

A tile of t × t values is t vector loads, log2(t) rounds of two-operand shuffles and t vector stores. (Measured on Zen 4
for 64 channels of 112 × 112: 84 µs, against 650 µs for a vectorised copy in tiles of 16 × 16, which LLVM turns into
gathers.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tvm import tirx

from .knobs import KnobSet
from .machine import Machine
from .operators import Sample, marked, register_knobs, register_operator
from .problem import Problem
from .schedules.registry import body_of

if TYPE_CHECKING:
    from typing_extensions import Self

MIN_TILE = 4
"""Below four lanes, one 16-byte vector, shuffling saves nothing over a plain copy."""


def transpose_reference(data: np.ndarray, lead: int, rows: int) -> np.ndarray:
    """Exchange the ``rows`` axes behind the first ``lead`` with all that follow them."""
    axes = range(data.ndim)
    return np.ascontiguousarray(
        data.transpose([*axes[:lead], *axes[lead + rows :], *axes[lead : lead + rows]])
    )


@dataclass(frozen=True, kw_only=True)
class TransposeProblem(Problem):
    """``batch`` matrices of (rows, columns)."""

    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class TransposeKnobs(KnobSet):
    """Values of a tile's ``side``, a power of two."""

    side: int

    @classmethod
    def space(cls, problem: TransposeProblem, machine: Machine) -> Iterator[Self]:
        """Every side from `MIN_TILE` that fits vectors and matrix."""
        side = MIN_TILE
        while side <= min(machine.lanes, problem.rows, problem.columns):
            yield cls(side=side)
            side *= 2

    @classmethod
    def default(cls, problem: TransposeProblem, machine: Machine) -> Self | None:
        """The largest; ``None`` where a plain copy does as well."""
        return max(cls.space(problem, machine), key=lambda knobs: knobs.side, default=None)

    def cycles(self, problem: TransposeProblem, machine: Machine) -> float:
        """Of the whole batch."""
        tiles = -(-problem.rows // self.side) * -(-problem.columns // self.side)
        return problem.batch * tiles * self.side**2 * machine.transpose_cycles


def transpose(
    shape: tuple[int | tirx.Var, ...],
    lead: int,
    rows: int,
    side: int,
    kind: str = "llvm",
) -> tirx.PrimFunc:
    """Build the transposition of a float32 tensor of ``shape``, scheduled.

    Parameters
    ----------
    shape : of the input; only the first ``lead`` extents may be symbolic.
    lead, rows : int
        Axes that stay in front, and axes that go to the end.
    side : int
        Of a tile, from its knobs. The last tiles of a row or column overlap those before.
    kind : str
        Of target, whose loops these are.

    Returns
    -------
    PrimFunc
        (input, output), with a leading axis, rows and columns merged inside.
    """
    return body_of(kind, "transpose")(shape, lead, rows, side)


def make_transpose(
    problem: TransposeProblem, knobs: TransposeKnobs, machine: Machine, rng: np.random.Generator
) -> Sample:
    """`transpose` alone."""
    data = rng.standard_normal((problem.batch, problem.rows, problem.columns), np.float32)
    func = transpose(data.shape, 1, 1, knobs.side, kind=machine.kind)
    func = marked(func, "transpose", problem, knobs)
    return Sample(func, (data,), lambda: transpose_reference(data, 1, 1))


register_operator("transpose", TransposeProblem)
register_knobs("llvm", "transpose", TransposeKnobs, make_transpose)
