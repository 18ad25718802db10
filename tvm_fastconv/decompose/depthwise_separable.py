"""A convolution as a depthwise one and a 1×1 one (Guo et al., "Network Decoupling", arXiv:1808.05517).

``W[o, c, y, x] ≈ Σ_m P[o, c, m] · D[c, m, y, x]``. No two input channels share a factor, so the squared error is a sum
over them, and the truncated singular value decomposition of each (o × kh·kw) slice is the optimum (Frobenius norm).
"""

from dataclasses import dataclass

import numpy as np

from .weights import check_count, check_weight, relative_error


@dataclass(frozen=True)
class DepthwiseSeparableFactors:
    """A depthwise and a 1×1 convolution in place of a weight.

    Attributes
    ----------
    depthwise : ndarray, (c · m, 1, kh, kw), float32
        Kernel i reads input channel i // m.
    pointwise : ndarray, (o, c · m, 1, 1), float32
    error : float
        ``‖weight − self.weight‖ / ‖weight‖`` (Frobenius norm).
    channels : int
        c.
    """

    depthwise: np.ndarray
    pointwise: np.ndarray
    error: float
    channels: int

    @property
    def weight(self) -> np.ndarray:
        """The approximation, (o, c, kh, kw), float64."""
        return depthwise_product(self.depthwise, self.pointwise, self.channels)


def depthwise_separable(weight: np.ndarray, *, multiplier: int = 1) -> DepthwiseSeparableFactors:
    """Approximate ``weight`` by a depthwise and a 1×1 convolution.

    Parameters
    ----------
    weight : ndarray, (o, c, kh, kw), float32
    multiplier : int
        m, kernels for each input channel; capped at min(o, kh · kw), where the factors are exact.

    Raises
    ------
    ValueError
        ``multiplier`` is below 1, or ``weight`` is not finite.
    """
    check_weight(weight)
    check_count("multiplier", multiplier)
    o, c, kh, kw = weight.shape
    slices = weight.transpose(1, 0, 2, 3).reshape(c, o, kh * kw).astype(np.float64)
    left, sizes, right = np.linalg.svd(slices, full_matrices=False)
    kept = min(multiplier, sizes.shape[1])
    share = np.sqrt(sizes[:, :kept])
    depthwise = (share[:, :, None] * right[:, :kept]).reshape(-1, 1, kh, kw).astype(np.float32)
    rows = (left[:, :, :kept] * share[:, None]).swapaxes(0, 1)
    pointwise = np.ascontiguousarray(rows.reshape(o, -1, 1, 1), np.float32)
    error = relative_error(weight, depthwise_product(depthwise, pointwise, c))
    return DepthwiseSeparableFactors(depthwise, pointwise, error, c)


def depthwise_product(depthwise: np.ndarray, pointwise: np.ndarray, channels: int) -> np.ndarray:
    """The weight (o, c, kh, kw), float64, of a depthwise (c · m, 1, kh, kw) and a 1×1 convolution (o, c · m, 1, 1)."""
    kernels = depthwise.reshape(channels, -1, *depthwise.shape[2:]).astype(np.float64)
    rows = pointwise.reshape(len(pointwise), channels, -1)
    return np.einsum("ocm,cmyx->ocyx", rows, kernels, optimize=True)
