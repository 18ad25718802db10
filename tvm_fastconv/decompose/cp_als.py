"""Alternating least squares for CP terms, and the search for the rank that an error takes.

Each factor in turn is the least squares solution for the others, by its normal equations (Kolda and Bader, "Tensor
decompositions and applications", SIAM Review 51, 2009, section 3.4).
"""

import math

import numpy as np

from .cp_terms import Factors, outer, sweep
from .low_rank import left_singular, smallest_rank
from .weights import ROUNDING, relative_error

SWEEPS = 60
"""Another 100 lower the error by about 1 % (64 × 64 trained, 256 × 256 random), and make the terms larger."""
SETTLED = 1e-5
"""A fit ends when a sweep lowers the error by less than this share of it."""
RIDGE = 1e-12
"""Added to the normal equations as a share of their mean diagonal: two equal terms are no error."""
QUICK = 8
"""Sweeps that tell roughly which rank an error takes; a whole fit of that rank is 3-25 % nearer."""
GROWTH, STEP = 1.5, 0.04
"""The search widens by the first until the error is reached, and ends within the second of the rank."""


def full_rank(shape: tuple[int, ...]) -> int:
    """Terms that are enough for every tensor of ``shape``: one for each entry of all modes but the longest."""
    return math.prod(shape) // max(shape)


def fit(tensor: np.ndarray, rank: int, seed: int, sweeps: int = SWEEPS) -> Factors:
    """Terms near ``tensor``.

    Parameters
    ----------
    tensor : ndarray, (n_0, n_1, ...), float64
        Three modes or more.
    rank : int
        1 to `full_rank`, where the result is exact.
    seed : int
    sweeps : int

    Returns
    -------
    tuple of ndarray, (n_m, rank), float64
    """
    if rank == full_rank(tensor.shape):
        return _exact(tensor)
    factors, before = _start(tensor, rank, seed), np.inf
    for _ in range(sweeps if tensor.any() else 1):
        factors = sweep(tensor, factors, _least_squares)
        missed = relative_error(tensor, outer(factors))
        if before - missed <= SETTLED * missed:
            break
        before = missed
    return factors


def fit_to_error(tensor: np.ndarray, error: float, seed: int) -> Factors:
    """The fewest terms that are found to come within ``error``, to `STEP` of their number.

    A quick fit of each rank tried says where to look; whole fits then go down from there while they reach the error.
    """
    goal = max(error - ROUNDING, 0)
    low, full = _least_rank(tensor, error), full_rank(tensor.shape)
    high = low
    while high < full and relative_error(tensor, outer(fit(tensor, high, seed, QUICK))) > goal:
        low, high = high + 1, min(math.ceil(GROWTH * high), full)
    while high - low > STEP * high:
        middle = (low + high) // 2
        near = relative_error(tensor, outer(fit(tensor, middle, seed, QUICK))) <= goal
        low, high = (low, middle) if near else (middle + 1, high)
    best = fit(tensor, high, seed)
    while high > 1:
        high -= max(1, round(STEP * high))
        fewer = fit(tensor, high, seed)
        if relative_error(tensor, outer(fewer)) > goal:
            break
        best = fewer
    return best


def _least_squares(products: np.ndarray, gram: np.ndarray) -> np.ndarray:
    ridge = RIDGE * np.trace(gram) / len(gram) or 1.0
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), products.T).T


def _start(tensor: np.ndarray, rank: int, seed: int) -> Factors:
    """Singular vectors of each mode, and random columns where there are not enough."""
    rng = np.random.default_rng(seed)
    factors = []
    for mode, extent in enumerate(tensor.shape):
        factor = rng.standard_normal((extent, rank))
        count = min(extent, rank)
        vectors, _ = left_singular(np.moveaxis(tensor, mode, 0).reshape(extent, -1))
        factor[:, :count] = math.sqrt(extent) * vectors[:, :count]
        factors.append(factor)
    return tuple(factors)


def _least_rank(tensor: np.ndarray, error: float) -> int:
    """No fewer terms can reach ``error``: the rank that each way to write the tensor as a matrix takes for it."""
    modes, ranks = range(tensor.ndim), []
    groups = [{mode} for mode in modes] + [{0, mode} for mode in modes if mode and tensor.ndim > 3]
    for group in groups:
        rows = [mode for mode in modes if mode in group]
        columns = [mode for mode in modes if mode not in group]
        matrix = tensor.transpose(rows + columns).reshape(math.prod(tensor.shape[mode] for mode in rows), -1)
        narrow = matrix if len(matrix) <= matrix.shape[1] else matrix.T
        ranks.append(smallest_rank(left_singular(narrow)[1], error))
    return max(ranks)


def _exact(tensor: np.ndarray) -> Factors:
    """A term for each entry of all modes but the longest: a fibre of the tensor, and unit vectors."""
    longest = int(np.argmax(tensor.shape))
    others = [mode for mode in range(tensor.ndim) if mode != longest]
    fibres = tensor.transpose(longest, *others).reshape(tensor.shape[longest], -1)
    places = np.unravel_index(np.arange(fibres.shape[1]), [tensor.shape[mode] for mode in others])
    units = {mode: np.eye(tensor.shape[mode])[:, place] for mode, place in zip(others, places, strict=True)}
    return tuple(units.get(mode, fibres) for mode in range(tensor.ndim))
