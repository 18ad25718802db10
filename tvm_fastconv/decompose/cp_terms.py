"""Sums of rank-one terms: the factors of a canonical polyadic (CP) decomposition, one mode after the other.

A tensor of shape (n_0, n_1, ...) has one factor (n_m, r) for each mode m; column t of all of them is term t, their
outer product. Modes 0 and 1 are the large ones, so each sweep contracts the tensor with those two factors only.
"""

from collections.abc import Callable, Iterator

import numpy as np

Factors = tuple[np.ndarray, ...]
Solve = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From ``T_(m) · Z`` (n_m, r) and ``Zᵀ · Z`` (r, r) to the factor of mode m; ``Z`` is the product of all others."""


def sweep(tensor: np.ndarray, factors: Factors, solve: Solve) -> Factors:
    """Refit every factor once, the others fixed with columns of length 1.

    Parameters
    ----------
    tensor : ndarray, (n_0, n_1, ...), float64
        Three modes or more.
    factors : tuple of ndarray, (n_m, r), float64
    solve : callable
        Called for modes 1, 2, ..., 0.

    Returns
    -------
    tuple of ndarray
        All columns but those of mode 0 have length 1.
    """
    new = [unit_columns(factor)[0] for factor in factors]
    for mode, products in _products(tensor, new):
        others = [factor for m, factor in enumerate(new) if m != mode]
        gram = np.prod([factor.T @ factor for factor in others], axis=0)
        new[mode] = solve(products, gram)
        if mode != 0:
            new[mode] = unit_columns(new[mode])[0]
    return tuple(new)


def _products(tensor: np.ndarray, factors: list[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Each mode with ``T_(m) · Z``, from the factors as they are when it is asked for."""
    n0, n1, *small = tensor.shape
    rank = factors[0].shape[1]
    flat = (tensor.reshape(n0, -1).T @ factors[0]).reshape(n1, -1, rank)
    yield 1, (flat * _spread(factors[2:])).sum(1)
    rest = np.einsum("nsr,nr->sr", flat, factors[1]).reshape(*small, rank)
    for place in range(len(small)):
        others = [factor for i, factor in enumerate(factors[2:]) if i != place]
        moved = np.moveaxis(rest, place, 0).reshape(small[place], -1, rank)
        yield 2 + place, (moved * _spread(others)).sum(1)
    turned = np.moveaxis(tensor, 1, -1).reshape(-1, n1)
    flat = (turned @ factors[1]).reshape(n0, -1, rank)
    yield 0, (flat * _spread(factors[2:])).sum(1)


def _spread(factors: list[np.ndarray]) -> np.ndarray:
    """The products of all rows of one factor with all rows of the next (Khatri-Rao), (product of n_m, r)."""
    spread = np.ones((1, factors[0].shape[1])) if factors else np.ones((1, 1))
    for factor in factors:
        spread = (spread[:, None] * factor).reshape(-1, factor.shape[1])
    return spread


def unit_columns(factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``factor`` (n, r) with columns of length 1, and the lengths (r,) they had; columns of zeros stay."""
    size = np.linalg.norm(factor, axis=0)
    return factor / np.where(size > 0, size, 1), size


def component_norms(factors: Factors) -> np.ndarray:
    """The Frobenius norm (r,) of each term."""
    return np.prod([np.linalg.norm(factor, axis=0) for factor in factors], axis=0)


def sensitivity(factors: Factors) -> float:
    """Expected squared change of the tensor when every entry of the factors gets noise of variance 1, to first order.

    ``Σ_m n_m · Σ_t Π_{k≠m} ‖a_t^(k)‖²`` (Phan et al., arXiv:2008.05441; here for any number of modes): the
    larger it is, the more of the tensor is the difference of large terms.
    """
    squares = np.stack([np.square(factor).sum(0) for factor in factors])
    others = [np.prod(np.delete(squares, mode, axis=0), axis=0).sum() for mode in range(len(factors))]
    return float(sum(len(factor) * other for factor, other in zip(factors, others, strict=True)))


def balanced(factors: Factors) -> Factors:
    """The same terms, with the lengths of each one's columns chosen so that `sensitivity` is smallest.

    That is where all modes have the same part in it: squared lengths in proportion to n_m.
    """
    norms = component_norms(factors)
    shares = [np.sqrt(len(factor)) for factor in factors]
    scale = (norms / np.prod(shares)) ** (1 / len(factors))
    return tuple(
        unit_columns(factor)[0] * (share * scale) for factor, share in zip(factors, shares, strict=True)
    )


def outer(factors: Factors) -> np.ndarray:
    """The sum of the terms, (n_0, n_1, ...)."""
    flat = factors[0] @ _spread(list(factors[1:])).T
    return flat.reshape([len(factor) for factor in factors])
