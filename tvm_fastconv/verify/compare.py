"""One value of a compiled model against the same value of its source, computed from equal inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .source import Known, Roundings, Source

TOLERANCE = 2e-5
"""Error allowed, relative to the largest value: what an exact operator may be off by in float32 (a direct convolution
measures 3e-7, Winograd's F(4×4, 3×3) up to 1e-5)."""

TRIALS = 6
"""Ways of rounding, drawn at random, beside all up and all down."""


@dataclass(frozen=True)
class Comparison:
    """How far two values are from each other.

    Attributes
    ----------
    error : float
        The largest difference where the source is sure of its value, relative to its largest value.
    open : float
        Share of the values that rounding may change by more than `TOLERANCE`: what lies on a threshold.
    agrees : bool
        Whether every difference is within the tolerance or what rounding may do to that very value.
    """

    error: float
    open: float
    agrees: bool = True


def compare(got: np.ndarray, want: np.ndarray, source: Source, name: str, known: Known) -> Comparison:
    """Compare ``got`` with ``want``, which ``source`` computes for ``name`` from ``known``.

    Where they differ by more than `TOLERANCE` of the largest value, the source computes the value again with its
    roundings pushed to their bounds. A difference as large as what that moves is no error; a bit may turn only where
    one of these ways turns it.
    """
    difference, largest = _difference(got, want)
    floor = TOLERANCE * largest if want.dtype.kind == "f" else 0.0  # integers and masks are equal
    if (difference <= floor).all():
        return Comparison(_relative(difference, largest), 0.0)
    layers = 0.0 if source.decides(name, known) else TOLERANCE
    rng, moved = np.random.default_rng(0), np.zeros(want.shape)
    for sign in (1, -1, *[0] * TRIALS):
        trial = source.evaluate(name, known, Roundings(sign, layers, rng))
        moves = _difference(trial, want)[0]
        moved = np.maximum(
            moved, np.where(np.isfinite(moves), moves, 0.0)
        )  # beyond all numbers, nothing is allowed
    allowed = 2 * moved
    wrong = difference > floor + allowed
    return Comparison(
        _relative(np.where(wrong, difference, 0.0), largest), float(np.mean(allowed > floor)), not wrong.any()
    )


def largest_difference(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> float:
    """How far outputs are off, relative to the largest value of each."""
    return max((_relative(*_difference(g, w)) for g, w in zip(got, want, strict=True)), default=0.0)


def _difference(got: np.ndarray, want: np.ndarray) -> tuple[np.ndarray, float]:
    """|got − want| and the largest |want|.

    The difference is 0 where ``want`` is NaN (a random input may lead where a model has no value), and infinite where
    only one of them is infinite or ``got`` alone is NaN.
    """
    got, want = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.abs(got - want)
    difference = np.where((got == want) | np.isnan(want), 0.0, difference)
    difference = np.where(np.isnan(difference), np.inf, difference)
    finite = want[np.isfinite(want)]
    return difference, float(np.abs(finite).max(initial=0.0))


def _relative(difference: np.ndarray, largest: float) -> float:
    return float(difference.max(initial=0.0) / (largest or 1.0))
