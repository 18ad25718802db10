"""Matrices of low rank: the truncated singular value decomposition, the best there is (Eckart and Young, 1936).

It comes from the eigenvectors of the smaller Gram matrix: twice as fast as the decomposition itself for 1536 × 1536,
and as good, since one factor is the matrix projected onto the other.
"""

import numpy as np

from .weights import ROUNDING


def left_singular(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors and squared singular values, largest first.

    Parameters
    ----------
    matrix : ndarray, (m, n), float64

    Returns
    -------
    vectors : ndarray, (m, m), float64
        Orthonormal columns.
    squares : ndarray, (m,), float64
        At least 0. Below 1e-16 of the largest they are rounding.
    """
    squares, vectors = np.linalg.eigh(matrix @ matrix.T)
    return vectors[:, ::-1], np.maximum(squares[::-1], 0)


def smallest_rank(squares: np.ndarray, error: float) -> int:
    """How many singular values leave an error of at most ``error``, relative to the norm.

    Parameters
    ----------
    squares : ndarray, (m,), float64
        Squared singular values, largest first.
    error : float

    Returns
    -------
    int
        1 to m.
    """
    missed = np.append(np.cumsum(squares[::-1])[::-1], 0.0)
    return max(1, int(np.argmax(missed <= max(error - ROUNDING, 0) ** 2 * missed[0])))


def low_rank(
    matrix: np.ndarray, *, rank: int | None = None, error: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Two factors, ``matrix ≈ left @ right``, whose columns and rows share the singular values.

    Parameters
    ----------
    matrix : ndarray, (m, n), float64
    rank : int, optional
        r, capped at min(m, n). Without it and ``error``, 1.
    error : float, optional
        Largest relative error (Frobenius norm), by the smallest rank.

    Returns
    -------
    left : ndarray, (m, r), float64
    right : ndarray, (r, n), float64
    """
    if matrix.shape[0] > matrix.shape[1]:
        right, left = low_rank(matrix.T, rank=rank, error=error)
        return left.T, right.T
    vectors, squares = left_singular(matrix)
    count = smallest_rank(squares, error) if error is not None else min(rank or 1, len(matrix))
    left = vectors[:, :count]
    right = left.T @ matrix
    size = np.sqrt(np.linalg.norm(right, axis=1))
    share = np.where(size > 0, size, 1)
    return left * share, right / share[:, None]
