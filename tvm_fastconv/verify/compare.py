"""One value of a compiled model against the same value of its source, computed from equal inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .source import Known, Roundings, Source

TOLERANCE = 2e-5
"""Error allowed, relative to the largest value of a channel: what an exact operator may be off by in float32 (a direct
convolution measures 3e-7, Winograd's F(4×4, 3×3) up to 1e-5)."""

DIRECT = 1e-6
"""What a convolution that is no Winograd's is off by, likewise; three times what was measured."""

SMALLEST = float(np.finfo(np.float32).tiny)
"""What is below has fewer bits, or none."""

TRIALS = 8
"""Ways of rounding, drawn at random, beside all up and all down."""


@dataclass(frozen=True)
class Comparison:
    """How far two values are from each other.

    Attributes
    ----------
    error : float
        The largest difference where the source is sure of its value, relative to the largest value of its channel.
    open : float
        Share of the values that differ by more than `tolerance`, which rounding may do to them: what lies on a
        threshold, or is small beside the terms that it is the sum of.
    agrees : bool
        Whether every difference is within the tolerance or what rounding may do to that very value.
    """

    error: float
    open: float
    agrees: bool = True


def tolerance(factors: float) -> float:
    """Error allowed where the factors of products are off by ``factors`` of themselves.

    All of a channel may be off alike, in equal weights say: what is the sum of terms of one sign is then off by twice
    as much of itself.
    """
    return max(TOLERANCE, 2 * factors)


def compare(
    got: np.ndarray, want: np.ndarray, source: Source, name: str, known: Known, factors: float = 0.0
) -> Comparison:
    """Compare ``got`` with ``want``, which ``source`` computes for ``name`` from ``known``.

    Where they differ by more than `tolerance` of the largest value of a channel, the source computes the value again
    with its roundings pushed to their bounds, in up to `TRIALS` + 2 ways. A difference as large as what that moves is
    no error; a bit may turn only where one of these ways turns it.
    """
    difference, largest = _difference(got, want), _largest(want, source.channel_axes)
    floor = (
        tolerance(factors) * largest + SMALLEST if want.dtype.kind == "f" else 0.0
    )  # integers and masks are equal
    wrong, moved = difference > floor, np.zeros(want.shape)
    layers = 0.0 if wrong.any() and source.decides(name, known) else TOLERANCE
    rng = np.random.default_rng(0)
    for sign in (1, -1, *[0] * TRIALS):
        if not wrong.any():
            break
        trial = source.evaluate(name, known, Roundings(sign, layers, rng, factors))
        moves = _difference(trial, want)
        # Beyond all numbers, nothing is allowed.
        moved = np.maximum(moved, np.where(np.isfinite(moves), moves, 0.0))
        wrong = difference > floor + 2 * moved
    counted = wrong if moved.any() else True
    error = np.where(counted, difference, 0.0) / np.where(largest > 0, largest, 1.0)
    excused = (difference > floor) & ~wrong
    return Comparison(float(error.max(initial=0.0)), float(np.mean(excused)), not wrong.any())


def moved_by_roundings(source: Source, examples: Sequence[np.ndarray]) -> float:
    """How far rounding may move the outputs of a whole network, relative to the largest value of each.

    The largest of `TRIALS` + 2 ways to round; direct convolutions and matrix products are off by `DIRECT` at least.
    """
    known = dict(zip(source.inputs, examples, strict=True))
    names = [name for name in source.outputs if name not in known]
    want = [source.evaluate(name, known) for name in names]
    rng = np.random.default_rng(0)
    return max(
        largest_difference(
            [source.evaluate(name, known, Roundings(sign, DIRECT, rng)) for name in names], want
        )
        for sign in (1, -1, *[0] * TRIALS)
    )


def largest_difference(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> float:
    """How far outputs are off, relative to the largest value of each."""
    each = (
        float(_difference(g, w).max(initial=0.0) / (_largest(w, ()).max(initial=0.0) or 1.0))
        for g, w in zip(got, want, strict=True)
    )
    return max(each, default=0.0)


def _difference(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """|got − want|, float64.

    It is 0 where ``want`` is NaN (a random input may lead where a model has no value), and infinite where only one of
    them is infinite or ``got`` alone is NaN.
    """
    got, want = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.abs(got - want)
    difference = np.where((got == want) | np.isnan(want), 0.0, difference)
    return np.where(np.isnan(difference), np.inf, difference)


def _largest(value: np.ndarray, channel_axes: Sequence[int]) -> np.ndarray:
    """The largest finite magnitude of each value's channel, or of all; it broadcasts to ``value``.

    A channel lies along one of ``channel_axes``, for less than a batch of planes along the last axis or the second; the
    smallest counts where there are two.
    """
    size = np.where(np.isfinite(value), np.abs(value.astype(np.float64)), 0.0)
    axes = channel_axes if value.ndim > 3 else (1, -1) if value.ndim > 1 and channel_axes else ()
    largest = np.full((1,) * value.ndim, size.max(initial=0.0))
    for channel in axes:
        others = tuple(axis for axis in range(value.ndim) if axis != channel % value.ndim)
        largest = np.minimum(largest, size.max(others, initial=0.0, keepdims=True))
    return largest
