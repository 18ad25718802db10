"""A convolution as lookups: a dictionary shared by all filters and taps, and few coefficients that point into it.

``W[o, :, r, s] ≈ Σ_t P[o, t, r, s] · D[t, :]``: a 1×1 convolution with ``D``, then one with the sparse ``P``
(Bagherinezhad et al., "LCNN: Lookup-based Convolutional Neural Network", arXiv:1611.06473).
"""

from dataclasses import dataclass

import numpy as np

from .sparse_coding import STEPS, matching_pursuit, refit_atoms, refit_codes, replace_twins, unit
from .weights import check_weight

ITERATIONS = 8
"""Codes and dictionary are refitted this often; another 8 times lower the error by 1 %."""
ROUNDING = 1e-7
"""Of float32: the factors' share in the error, and what a product of counts may lack of a whole number."""


@dataclass(frozen=True)
class LookupFactors:
    """A dictionary and sparse coefficients in place of a weight.

    Attributes
    ----------
    dictionary : ndarray, (k, c), float32
    coefficients : ndarray, (o, k, kh, kw), float32
        Mostly exact zeros.
    error : float
        ``‖weight − self.weight‖ / ‖weight‖`` (Frobenius norm).
    """

    dictionary: np.ndarray
    coefficients: np.ndarray
    error: float

    @property
    def density(self) -> float:
        """Share of nonzeros among the coefficients."""
        return np.count_nonzero(self.coefficients) / self.coefficients.size

    @property
    def weight(self) -> np.ndarray:
        """The approximation, (o, c, kh, kw), float64."""
        return np.einsum(
            "okrs,kc->ocrs", self.coefficients, self.dictionary.astype(np.float64), optimize=True
        )


def lookup(
    weight: np.ndarray,
    *,
    dictionary_size: int,
    density: float | None = None,
    error: float | None = None,
    iterations: int = ITERATIONS,
    seed: int = 0,
) -> LookupFactors:
    """Approximate ``weight`` by lookups.

    Parameters
    ----------
    weight : ndarray, (o, c, kh, kw), float32
    dictionary_size : int
        k, at most o·kh·kw: from there on every tap could have an atom of its own.
    density : float, optional
        Largest share of nonzeros in the coefficients. They are spread over filters and taps as it pays most.
    error : float, optional
        Largest relative error; the fewest nonzeros that are found to reach it. Give either this or ``density``.
    iterations : int
        Refits of codes and dictionary. More are never worse.
    seed : int
        Chooses the columns of the weight that the dictionary starts from.

    Raises
    ------
    ValueError
        A parameter is not allowed, ``weight`` is not finite, or no dictionary of this size reaches ``error``.
    """
    _check(weight, dictionary_size, density, error, iterations)
    o, c, kh, kw = weight.shape
    columns = weight.transpose(0, 2, 3, 1).reshape(-1, c).astype(np.float64)
    scale = np.abs(columns).max() or 1.0
    data = (columns / scale).astype(np.float32)
    count = len(data) * dictionary_size
    task = _Task(data, count if density is None else int(density * count + ROUNDING), error)
    fit = _largest(task, dictionary_size)
    if not fit.cost(task) < np.inf:
        raise ValueError(
            f"error is {error}; a dictionary of {dictionary_size} reaches {fit.error:.2g} at best, with density 1"
        )
    if error is not None or np.count_nonzero(fit.codes) == task.count:
        fit = _refine(task, fit, _some_columns(data, dictionary_size, seed), iterations)
    codes = (scale * refit_codes(data, fit.atoms, fit.codes)).astype(np.float32)
    coefficients = np.ascontiguousarray(codes.reshape(o, kh, kw, -1).transpose(0, 3, 1, 2))
    return LookupFactors(fit.atoms, coefficients, _error(columns, codes, fit.atoms))


def _check(
    weight: np.ndarray, dictionary_size: int, density: float | None, error: float | None, iterations: int
) -> None:
    check_weight(weight)
    most = weight.size // weight.shape[1]
    if (
        isinstance(dictionary_size, bool)
        or not isinstance(dictionary_size, int)
        or not 1 <= dictionary_size <= most
    ):
        raise ValueError(
            f"dictionary_size is {dictionary_size!r}; allowed: 1 to {most}, for a weight of shape {weight.shape}"
        )
    if (density is None) == (error is None):
        raise ValueError(f"density is {density} and error is {error}; allowed: one of them, the other None")
    if density is not None and not 0 < density <= 1:
        raise ValueError(f"density is {density}; allowed: above 0, at most 1")
    if error is not None and not 0 < error < 1:
        raise ValueError(f"error is {error}; allowed: above 0, below 1")
    if iterations < 0:
        raise ValueError(f"iterations is {iterations}; allowed: 0 or more")


@dataclass(frozen=True)
class _Task:
    """Rows to approximate with at most ``count`` nonzeros: the least error, or the fewest that reach ``error``."""

    data: np.ndarray
    count: int
    error: float | None


@dataclass(frozen=True)
class _Fit:
    """``data ≈ codes @ atoms`` and its relative error."""

    atoms: np.ndarray
    codes: np.ndarray
    error: float

    def cost(self, task: _Task) -> float:
        """What is to be small: the error, or the number of nonzeros where the error is small enough."""
        if task.error is None:
            return self.error
        return float(np.count_nonzero(self.codes)) if self.error <= task.error - ROUNDING else np.inf


def _error(data: np.ndarray, codes: np.ndarray, atoms: np.ndarray) -> float:
    size = np.linalg.norm(data)
    return float(np.linalg.norm(data - codes.astype(np.float64) @ atoms) / size) if size else 0.0


def _largest(task: _Task, dictionary_size: int) -> _Fit:
    """The largest coefficients over the singular vectors; with all of them, no dictionary of this size is better."""
    data = task.data.astype(np.float64)
    basis = np.linalg.svd(data, full_matrices=False)[2][:dictionary_size]
    atoms = np.zeros((dictionary_size, data.shape[1]))
    atoms[: len(basis)] = basis
    codes = data @ atoms.T
    keep = task.count
    if task.error is not None:
        gains = np.sort(np.square(codes).reshape(-1))[::-1]
        goal = np.square(data).sum() * (1 - (task.error - 2 * ROUNDING) ** 2)
        keep = int(np.searchsorted(np.cumsum(gains), goal)) + 1
    keep = min(keep, int(np.count_nonzero(codes)))
    kept = np.argpartition(-np.abs(codes).reshape(-1), max(keep - 1, 0))[:keep]
    thinned, atoms = np.zeros(codes.shape, np.float32), atoms.astype(np.float32)
    thinned.reshape(-1)[kept] = codes.reshape(-1)[kept]
    return _Fit(atoms, thinned, _error(data, thinned, atoms))


def _some_columns(data: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Atoms (count, c) that are rows of ``data``, each drawn in proportion to the energy that those before it miss.

    This is k-means++ (Arthur and Vassilvitskii, SODA 2007) for lines through 0. Atoms stay 0 where nothing is missed.
    """
    rng = np.random.default_rng(seed)
    atoms = np.zeros((count, data.shape[1]), np.float32)
    energy = np.square(data.astype(np.float64)).sum(1)
    missed, least = energy, ROUNDING * energy.sum()
    for number in range(count):
        if missed.sum() <= least:
            break
        row = rng.choice(len(data), p=missed / missed.sum())
        atoms[number] = unit(data[row : row + 1])
        missed = np.minimum(missed, np.maximum(energy - np.square(data @ atoms[number]), 0))
        missed[row] = 0
    return atoms


def _refine(task: _Task, fit: _Fit, columns: np.ndarray, iterations: int) -> _Fit:
    """Improve ``fit``, or begin with ``columns`` as atoms if that is better after one iteration."""
    best, atoms, codes = fit, fit.atoms, fit.codes
    for step in range(iterations):
        count = task.count if task.error is None else int(np.count_nonzero(best.codes))
        fit = _once(task, atoms, count, codes)
        if step == 0:
            fit = min(fit, _once(task, columns, count), key=lambda fit: fit.cost(task))
        best = min(best, fit, key=lambda fit: fit.cost(task))
        atoms, codes = replace_twins(task.data, fit.atoms, fit.codes)
    return best


def _once(task: _Task, atoms: np.ndarray, count: int, start: np.ndarray | None = None) -> _Fit:
    codes = matching_pursuit(task.data, atoms, count, task.error, start)
    atoms, codes = refit_atoms(task.data, codes)
    fit = _Fit(atoms, codes, _error(task.data, codes, atoms))
    if task.error is None:
        return fit
    return min(fit, _thinned(task.data, task.error, fit), key=lambda fit: fit.cost(task))


def _thinned(data: np.ndarray, error: float, fit: _Fit) -> _Fit:
    """``fit`` without its smallest codes, as many as the error allowed pays for."""
    spare = (error**2 - fit.error**2) * np.square(data).sum(dtype=np.float64)
    sizes = np.sort(np.abs(fit.codes[fit.codes != 0]).astype(np.float64))
    dropped = np.searchsorted(np.cumsum(sizes**2), spare)
    if not 0 < dropped < sizes.size:
        return fit
    codes = np.where(np.abs(fit.codes) >= sizes[dropped], fit.codes, 0)
    codes = refit_codes(data, fit.atoms, codes, STEPS).astype(np.float32)
    return _Fit(fit.atoms, codes, _error(data, codes, fit.atoms))
