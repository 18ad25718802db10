"""What verification asks of the model that was compiled, whoever computes its values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Known = Mapping[str, np.ndarray]
"""Values of the source by their names."""

UNIT = 2.0**-24
"""What rounding to float32 is off by at most, relative to the result."""

TF32_UNIT = 2.0**-11
"""What rounding a factor to TF32 is off by at most, relative to it."""

FACTOR_SPREAD = 5.0
"""The factors of a product put it off by a standard deviation of ``TF32_UNIT · sqrt(2 / 3)`` of itself at most, those
of a sum independently: six of the sum's deviations are ``5 · TF32_UNIT · sqrt(sum(terms²))``."""

SPREAD = 2.0
"""Summed in any order, n terms are off by a standard deviation of ``UNIT / 3 · sqrt(n) · sum(|terms|)`` at most, when
all of them have one sign and are added one by one; this many ``UNIT · sqrt(n) · sum(|terms|)`` are six of those."""


@dataclass
class Roundings:
    """Every rounding on the way to a value is off by its bound, times a sign.

    Attributes
    ----------
    sign : int
        +1 or −1 for all of them; 0 for a share between −1 and 1 drawn for each element, so that two bounds that happen
        to be equal do not cancel.
    layers : float
        The bound for convolutions and matrix products is at least this much of their channel's largest result.
    factors : float
        What the factors of their products are off by, relative to each: 0, or `TF32_UNIT`.
    """

    sign: int
    layers: float
    rng: np.random.Generator
    factors: float = 0.0

    def signs(self, shape: tuple[int, ...]) -> np.ndarray:
        """The signs of one value, or its shares, float32."""
        if self.sign:
            return np.full(shape, self.sign, np.float32)
        return self.rng.uniform(-1, 1, shape).astype(np.float32)


class Source(Protocol):
    """A model whose values can be computed one by one.

    Attributes
    ----------
    by : str
        Who computes it, and what is not as the model says on purpose, for messages.
    inputs, outputs : tuple of str
        Names of what it takes and returns.
    channel_axes : tuple of int
        Axes of a batch of planes that may be its channels.
    """

    by: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    channel_axes: tuple[int, ...]

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The outputs."""

    def evaluate(self, name: str, known: Known, roundings: Roundings | None = None) -> np.ndarray:
        """The value ``name``, from those of ``known`` that it depends on most directly, itself excepted."""

    def decides(self, name: str, known: Known) -> bool:
        """Whether a sign, a comparison or a rounding lies between ``known`` and ``name``."""


def computed_by(what: str, plus_at_zero: frozenset[str]) -> str:
    """Who computes the values, for messages: ``what``, and that some signs are not as the model says."""
    return f"{what}, with sign(0) taken as +1," if plus_at_zero else what
