"""Do the weights of a layer lie on a uniform grid of few levels? Recognised by looking at the constant."""

from dataclasses import dataclass

import numpy as np

MAX_LEVEL = 127
"""Largest multiple of a filter's step: eight binary digits and a sign."""

TOLERANCE = 1e-5
"""Of a filter's step. Scales folded in float32 leave each weight within a few times 6e-8 of its level."""


@dataclass(frozen=True)
class WeightLevels:
    """``weight = scale · Σ_p planes_p · (±1)``.

    Attributes
    ----------
    signs : ndarray, (planes, o, ...), bool
        True for +1.
    planes : tuple of int
    scale : ndarray, (o,), float64
    """

    signs: np.ndarray
    planes: tuple[int, ...]
    scale: np.ndarray


def weight_levels(weight: np.ndarray) -> WeightLevels | str:
    """The planes of ``weight`` (o, ...), or why it has none, in words for the report."""
    levels = np.zeros(weight.shape, np.int64)
    scale = np.zeros(len(weight))
    for index, kernel in enumerate(weight.astype(np.float64)):
        found = _grid(kernel)
        if isinstance(found, str):
            return f"filter {index} {found}"
        scale[index], levels[index] = found
    return _planes(levels, scale)


def _grid(kernel: np.ndarray) -> tuple[float, np.ndarray] | str:
    """(step, multiples) of one filter."""
    magnitudes = np.unique(np.abs(kernel))
    largest = magnitudes[-1]
    if largest == 0:
        return 0.0, np.ones(kernel.shape, np.int64)
    if not np.isfinite(largest):
        return "is not finite"
    distinct = magnitudes[np.diff(magnitudes, prepend=-1.0) > TOLERANCE * largest / MAX_LEVEL]
    if len(distinct) > MAX_LEVEL + 1:
        return f"has {len(distinct)} magnitudes"
    positive = distinct[distinct > TOLERANCE * largest]
    step = min(positive[0], np.diff(positive).min(initial=np.inf))
    for divisor in (1, 2):
        multiples = kernel * divisor / step
        rounded = np.rint(multiples)
        close = np.abs(multiples - rounded).max() <= TOLERANCE * np.abs(rounded).max()
        if close and np.abs(rounded).max() <= MAX_LEVEL:
            return float((kernel * rounded).sum() / (rounded**2).sum()), rounded.astype(np.int64)
    return f"has {len(distinct)} magnitudes on no uniform grid"


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
