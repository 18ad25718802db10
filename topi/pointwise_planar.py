"""1×1 convolution on planes (NCHW): every output plane is a weighted sum of the input's, pixel by pixel.

What a dictionary is in front of lookups. A register tile is ``atoms`` output planes of ``vectors · lanes`` pixels; the
last tile of pixels overlaps the one before it, so that neither input nor output is padded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tvm import tirx

from .conv2d import Conv2dParams, conv2d_reference
from .knobs import KnobSet
from .machine import Machine
from .operators import Sample, operator_attrs, register_knobs, register_operator
from .problem import Problem
from .schedules.cuda.pointwise_planar import GpuPointwiseKnobs
from .schedules.registry import body_of

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class PointwiseProblem(Problem):
    """``batch`` times ``channels`` planes of ``height`` × ``width``, added up to ``atoms`` planes."""

    channels: int
    height: int
    width: int
    atoms: int

    @property
    def pixels(self) -> int:
        """Of a plane."""
        return self.height * self.width


@dataclass(frozen=True, kw_only=True)
class PointwiseKnobs(KnobSet):
    """A register tile: ``atoms`` planes of ``vectors`` vectors of ``lanes`` pixels."""

    lanes: int
    vectors: int
    atoms: int

    @property
    def pixels(self) -> int:
        """Of a tile."""
        return self.lanes * self.vectors

    @classmethod
    def space(cls, problem: PointwiseProblem, machine: Machine) -> Iterator[Self]:
        """Every tile that fits the registers and the plane."""
        lanes, registers = machine.lanes, machine.registers - 1
        for vectors in range(1, registers):
            for atoms in range(1, min(registers // vectors, problem.atoms + 1)):
                if atoms * vectors + vectors + 1 <= registers and lanes * vectors <= problem.pixels:
                    yield cls(lanes=lanes, vectors=vectors, atoms=atoms)

    @classmethod
    def default(cls, problem: PointwiseProblem, machine: Machine) -> Self | None:
        """The tile with the least estimated cycles; ``None`` where the plane fills no vector."""
        space = cls.space(problem, machine)
        return min(space, key=lambda knobs: knobs.cycles(problem, machine), default=None)

    def cycles(self, problem: PointwiseProblem, machine: Machine) -> float:
        """Of the whole batch."""

        def step(rows: int) -> float:
            sums = max(rows * self.vectors, machine.sums_in_flight)
            return sums + machine.load_cost * (rows + self.vectors)

        whole, rest = divmod(problem.atoms, self.atoms)
        tile = whole * step(self.atoms) + (step(rest) if rest else 0)
        tiles = problem.batch * -(-problem.pixels // self.pixels)
        return machine.cycles(tiles * problem.channels * tile)


def pointwise_planar_reference(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``data`` (n, c, h, w) by ``weight`` (k, c): (n, k, h, w), summed in float64, result float32."""
    params = Conv2dParams(kernel=(1, 1), out_channels=len(weight))
    return conv2d_reference(data.transpose(0, 2, 3, 1), weight[:, :, None, None], params).transpose(
        0, 3, 1, 2
    )


def pack_pointwise_weight(weight: np.ndarray, tile: PointwiseKnobs | GpuPointwiseKnobs) -> np.ndarray:
    """(k, c) → (tiles, c, atoms): a tile's weights for one channel lie side by side; padded with zeros."""
    k, c = weight.shape
    padded = np.zeros((-(-k // tile.atoms) * tile.atoms, c), np.float32)
    padded[:k] = weight
    return np.ascontiguousarray(padded.reshape(-1, tile.atoms, c).swapaxes(1, 2))


def pointwise_planar(
    shape: tuple[int | tirx.Var, ...],
    atoms: int,
    tile: PointwiseKnobs | GpuPointwiseKnobs,
    attrs: dict[str, str],
    kind: str = "llvm",
) -> tirx.PrimFunc:
    """Build the product, scheduled.

    Parameters
    ----------
    shape : (n, c, h, w)
        Only n may be symbolic; for `PointwiseKnobs`, h · w is at least ``tile.pixels``.
    atoms : int
        Output planes.
    attrs : dict
        Annotations of the anchor block.
    kind : str
        Of target, whose loops these are.

    Returns
    -------
    PrimFunc
        (data, weight, result): ``weight`` from `pack_pointwise_weight`, ``result`` float32 (n, atoms, h, w).
    """
    return body_of(kind, "pointwise_planar")(shape, atoms, tile, attrs)


def make_pointwise_planar(
    problem: PointwiseProblem,
    knobs: PointwiseKnobs | GpuPointwiseKnobs,
    machine: Machine,
    rng: np.random.Generator,
) -> Sample:
    """`pointwise_planar` alone."""
    data = rng.standard_normal((problem.batch, problem.channels, problem.height, problem.width), np.float32)
    weight = rng.standard_normal((problem.atoms, problem.channels), np.float32)
    attrs = operator_attrs("pointwise_planar", problem, knobs)
    func = pointwise_planar(data.shape, problem.atoms, knobs, attrs, kind=machine.kind)
    return Sample(
        func, (data, pack_pointwise_weight(weight, knobs)), lambda: pointwise_planar_reference(data, weight)
    )


register_operator("pointwise_planar", PointwiseProblem)
register_knobs("llvm", "pointwise_planar", PointwiseKnobs, make_pointwise_planar)
register_knobs("cuda", "pointwise_planar", GpuPointwiseKnobs, make_pointwise_planar)
