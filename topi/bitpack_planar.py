"""Pack decisions about NCHW into words: a vector of pixels collects one channel after the other as its bits.

Compared with a transpose to NHWC and `bitpack`, nothing is stored between. Where the pixels are no multiple of a tile,
the last tile overlaps the one before it, so that no value is padded and no condition is in the way of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tvm import tirx

from .bitpack import Thresholds, bitpack_reference, flip_words, threshold_rows
from .knobs import KnobSet
from .machine import Machine
from .operators import Sample, marked, register_knobs, register_operator
from .problem import Problem
from .schedules.registry import body_of

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_VECTORS = 4
"""Vectors of pixels in a tile: cache lines that lie side by side in each channel."""


def bitpack_planar_reference(data: np.ndarray, how: Thresholds, groups: int = 1) -> np.ndarray:
    """Pack float32 (n, c, h, w) into uint32 (n, h, w, groups · words), slowly."""
    return bitpack_reference(data.transpose(0, 2, 3, 1), how, groups)


@dataclass(frozen=True, kw_only=True)
class PlanarProblem(Problem):
    """Planes of ``height`` × ``width`` of ``channels``, in ``groups`` that begin with a word of their own."""

    channels: int
    height: int
    width: int
    groups: int = 1
    flips: bool = False

    @property
    def pixels(self) -> int:
        """Of a plane."""
        return self.height * self.width


@dataclass(frozen=True, kw_only=True)
class PlanarKnobs(KnobSet):
    """Pixels of a tile: ``vectors`` of ``lanes``."""

    lanes: int
    vectors: int

    @classmethod
    def space(cls, problem: PlanarProblem, machine: Machine) -> Iterator[Self]:
        """Every tile that fits the plane."""
        for vectors in range(1, MAX_VECTORS + 1):
            if vectors * machine.lanes <= problem.pixels:
                yield cls(lanes=machine.lanes, vectors=vectors)

    @classmethod
    def default(cls, problem: PlanarProblem, machine: Machine) -> Self | None:
        """The tile by which the fewest pixels are packed twice; ``None`` where the plane fills no vector."""
        space = cls.space(problem, machine)
        return min(space, key=lambda k: (k.cycles(problem, machine), -k.vectors), default=None)

    def cycles(self, problem: PlanarProblem, machine: Machine) -> float:
        """Of the whole batch: a load, a comparison, a selection and a union for each channel."""
        tiles = -(-problem.pixels // (self.vectors * self.lanes))
        return machine.cycles(4 * problem.batch * tiles * self.vectors * problem.channels)


def bitpack_planar(
    shape: tuple[int | tirx.Var, ...],
    groups: int,
    flips: bool,
    tile: PlanarKnobs,
    kind: str = "llvm",
) -> tirx.PrimFunc:
    """Build the packing of float32 NCHW of ``shape``, scheduled.

    Parameters
    ----------
    shape : (n, c, h, w)
        Only n may be symbolic; h · w is at least that of a tile.
    groups : int
        Each begins with a new word.
    flips : bool
        Whether there are bits to turn.
    kind : str
        Of target, whose loops these are.

    Returns
    -------
    PrimFunc
        (data, limit, [flip,] words): ``limit`` float32 from `threshold_rows`, ``flip`` uint32 from `flip_words`,
        ``words`` uint32 (n, h, w, groups · words).
    """
    return body_of(kind, "bitpack_planar")(shape, groups, flips, tile)


def make_bitpack_planar(
    problem: PlanarProblem, knobs: PlanarKnobs, machine: Machine, rng: np.random.Generator
) -> Sample:
    """`bitpack_planar` alone."""
    shape, groups = (problem.batch, problem.channels, problem.height, problem.width), problem.groups
    data, at = rng.standard_normal(shape, np.float32), rng.standard_normal(problem.channels, np.float32)
    how = Thresholds(at=at, flip=(rng.random(problem.channels) < 0.5) & problem.flips)
    flips = (flip_words(how.flip, groups),) if problem.flips else ()
    func = bitpack_planar(shape, groups, problem.flips, knobs, kind=machine.kind)
    func = marked(func, "bitpack_planar", problem, knobs)
    arrays = (data, threshold_rows(at, groups), *flips)
    return Sample(func, arrays, lambda: bitpack_planar_reference(data, how, groups))


register_operator("bitpack_planar", PlanarProblem)
register_knobs("llvm", "bitpack_planar", PlanarKnobs, make_bitpack_planar)
