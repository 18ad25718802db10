"""A k×k convolution as a k×1 and a 1×k one (Jaderberg et al., arXiv:1405.3866, scheme 2).

``W[o, c, y, x] ≈ Σ_r H[o, r, x] · V[r, c, y]``: written as a matrix with a row for each (c, y) and a column for each
(o, x), the weight gets rank r, and its truncated singular value decomposition is the optimum.
"""

from dataclasses import dataclass

import numpy as np

from .low_rank import low_rank
from .weights import check_parameters, check_weight, relative_error


@dataclass(frozen=True)
class SpatialFactors:
    """A column and a row convolution in place of a weight.

    Attributes
    ----------
    column : ndarray, (r, c, kh, 1), float32
    row : ndarray, (o, r, 1, kw), float32
    error : float
        ``‖weight − self.weight‖ / ‖weight‖`` (Frobenius norm).
    """

    column: np.ndarray
    row: np.ndarray
    error: float

    @property
    def weight(self) -> np.ndarray:
        """The approximation, (o, c, kh, kw), float64."""
        return _product(self.column, self.row)


def spatial(weight: np.ndarray, *, channels: int | None = None, error: float | None = None) -> SpatialFactors:
    """Approximate ``weight`` by a k×1 and a 1×k convolution.

    Parameters
    ----------
    weight : ndarray, (o, c, kh, kw), float32
    channels : int, optional
        r, between the two; capped at full rank, min(c · kh, o · kw), where the factors are exact.
    error : float, optional
        Largest relative error, by the fewest channels. Give either this or ``channels``.

    Raises
    ------
    ValueError
        A parameter is not allowed, or ``weight`` is not finite.
    """
    check_weight(weight)
    check_parameters(channels=channels, error=error)
    o, c, kh, kw = weight.shape
    matrix = weight.transpose(1, 2, 0, 3).reshape(c * kh, o * kw).astype(np.float64)
    left, right = low_rank(matrix, rank=channels, error=error)
    column = left.T.reshape(-1, c, kh, 1).astype(np.float32)
    row = np.ascontiguousarray(right.reshape(-1, o, 1, kw).swapaxes(0, 1), np.float32)
    return SpatialFactors(column, row, relative_error(weight, _product(column, row)))


def _product(column: np.ndarray, row: np.ndarray) -> np.ndarray:
    return np.einsum("orx,rcy->ocyx", row[:, :, 0, :].astype(np.float64), column[..., 0], optimize=True)
