"""Do the weights of a layer lie on a uniform grid of few levels? Recognised by looking at the constant."""

import functools
from dataclasses import dataclass

import numpy as np

from ..graph.near_miss import NearMiss

MAX_LEVEL = 255
"""Largest multiple of a filter's step: eight planes ±1 ±2 ... ±128."""

TOLERANCE = 1e-6
"""Of a filter's largest weight. Scales folded in float32 leave each weight within a few times 6e-8 of its level."""

REMAINDER = 2e-4
"""Of the largest weight: what Euclid's algorithm takes for nothing. A twentieth of the smallest step."""


@dataclass(frozen=True)
class WeightLevels:
    """``weight = scale · Σ_p planes_p · (±1)``.

    Attributes
    ----------
    signs : ndarray, (planes, o, ...), bool
        True for +1.
    bit_planes : tuple of int
    scale : ndarray, (o,), float64
    """

    signs: np.ndarray
    bit_planes: tuple[int, ...]
    scale: np.ndarray


def weight_levels(weight: np.ndarray) -> WeightLevels | NearMiss:
    """The planes of ``weight`` (o, ...)."""
    levels = np.zeros(weight.shape, np.int64)
    scale = np.zeros(len(weight))
    for index, kernel in enumerate(weight.astype(np.float64)):
        found = _grid(kernel)
        if isinstance(found, NearMiss):
            return NearMiss(f"filter {index} {found.reason}")
        scale[index], levels[index] = found
    return _planes(levels, scale)


def _grid(kernel: np.ndarray) -> tuple[float, np.ndarray] | NearMiss:
    """(step, multiples) of one filter."""
    magnitudes = np.unique(np.abs(kernel))
    largest = magnitudes[-1]
    if largest == 0:
        return 0.0, np.ones(kernel.shape, np.int64)
    if not np.isfinite(largest):
        return NearMiss("is not finite")
    step = functools.reduce(lambda a, b: _common_divisor(a, b, REMAINDER * largest), magnitudes, 0.0)
    if step * (MAX_LEVEL + 0.5) >= largest:
        levels = np.rint(kernel / step)
        fitted = float((kernel * levels).sum() / (levels**2).sum())
        if np.abs(kernel - fitted * levels).max() <= TOLERANCE * largest:
            return fitted, levels.astype(np.int64)
    return NearMiss(f"has {len(magnitudes)} magnitudes on no uniform grid")


def _common_divisor(a: float, b: float, nothing: float) -> float:
    """Euclid's algorithm on measured numbers."""
    while b > nothing:
        a, b = b, abs(a - b * round(a / b))
    return a


def _planes(levels: np.ndarray, scale: np.ndarray) -> WeightLevels:
    """Odd levels are sums ±1 ±2 ±4 ...; mixed ones, doubled and with one more ±1, are too."""
    if (levels % 2 == 1).all():
        digits = int(np.abs(levels).max()).bit_length()
        units = tuple(1 << p for p in range(digits))
        return WeightLevels(_signs(levels, digits), units, scale)
    digits = max(1, int(np.abs(levels).max() - 1).bit_length() + 1)
    odd = 2 * levels - 1
    last = np.ones((1, *levels.shape), bool)
    low = odd < -(2**digits - 1)  # the smallest level: −2^digits = −(2^digits − 1) − 1
    odd, last[0] = np.where(low, odd + 2, odd), ~low
    units = (*(1 << p for p in range(digits)), 1)
    return WeightLevels(np.concatenate([_signs(odd, digits), last]), units, scale / 2)


def _signs(odd: np.ndarray, digits: int) -> np.ndarray:
    """Signs s with Σ 2^p s_p = odd: the binary digits of (odd + 2^digits − 1) / 2."""
    unsigned = (odd + 2**digits - 1) // 2
    return np.stack([unsigned >> p & 1 == 1 for p in range(digits)])
