"""A convolution as 1×1, depthwise k×1, depthwise 1×k and 1×1 (Lebedev et al., arXiv:1412.6553, section 3).

``W[o, c, y, x] ≈ Σ_t O[o, t] · V[t, y] · H[t, x] · I[t, c]``: the canonical polyadic (CP) decomposition, fitted by
alternating least squares, after which its terms are made small again (`cp_correction`).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from .cp_als import fit, fit_to_error, full_rank
from .cp_correction import correct
from .cp_terms import Factors, balanced, outer
from .low_rank import low_rank
from .weights import ROUNDING, check_parameters, check_weight, relative_error

ALLOWANCE = 0.01
"""By how much of itself the correction may raise the error: where least squares ended, there is no room without."""
EXACT = 1e-5
"""Below this relative error the bound on it drowns in the rounding of float64 sums, and nothing is corrected."""


@dataclass(frozen=True)
class CPFactors:
    """Four small convolutions in place of a weight.

    Attributes
    ----------
    input : ndarray, (r, c), float32
    column : ndarray, (r, kh), float32
        Ones if kh is 1.
    row : ndarray, (r, kw), float32
        Ones if kw is 1.
    output : ndarray, (o, r), float32
    error : float
        ``‖weight − self.weight‖ / ‖weight‖`` (Frobenius norm).
    """

    input: np.ndarray
    column: np.ndarray
    row: np.ndarray
    output: np.ndarray
    error: float

    @property
    def terms(self) -> Factors:
        """The factors (n, r), float64, as `cp_terms` takes them: output, input and the sides longer than 1."""
        sides = [side.T for side in (self.column, self.row) if side.shape[1] > 1]
        return tuple(part.astype(np.float64) for part in (self.output, self.input.T, *sides))

    @property
    def weight(self) -> np.ndarray:
        """The approximation, (o, c, kh, kw), float64."""
        shape = (len(self.output), self.input.shape[1], self.column.shape[1], self.row.shape[1])
        return outer(self.terms).reshape(shape)


def cp(
    weight: np.ndarray,
    *,
    rank: int | None = None,
    ratio: float | None = None,
    error: float | None = None,
    correction: bool = True,
    seed: int = 0,
) -> CPFactors:
    """Approximate ``weight`` by rank-one terms.

    Parameters
    ----------
    weight : ndarray, (o, c, kh, kw), float32
        Sides of 1 are left out of the decomposition.
    rank : int, optional
        r, capped where the terms are exact whatever the weight.
    ratio : float, optional
        Largest share of the weight's parameters that the factors have, above 0 and at most 1.
    error : float, optional
        Largest relative error; the smallest rank that is found to reach it. Give one of these three.
    correction : bool
        Make the terms small at an error at most `ALLOWANCE` larger.
    seed : int
        Fills the factors that the fit starts from where there are more terms than singular vectors.

    Raises
    ------
    ValueError
        A parameter is not allowed, ``weight`` is not finite, or one term has more parameters than ``ratio`` allows.
    """
    check_weight(weight)
    check_parameters(rank=rank, ratio=ratio, error=error)
    shape = [extent for axis, extent in enumerate(weight.shape) if axis < 2 or extent > 1]
    if ratio is not None:
        rank = rank_of_ratio(weight.shape, ratio)
    scale = float(np.abs(weight).max()) or 1.0
    tensor = weight.reshape(shape).astype(np.float64) / scale
    terms = _terms(tensor, rank, error, correction, seed)
    first, *others = terms
    return _factors(weight, balanced((scale * first, *others)))


def rank_of_ratio(shape: tuple[int, ...], ratio: float) -> int:
    """The most terms whose parameters are at most the share ``ratio`` of those of a weight (o, c, kh, kw).

    Raises
    ------
    ValueError
        One term has more.
    """
    size = math.prod(shape)
    term = sum(extent for axis, extent in enumerate(shape) if axis < 2 or extent > 1)
    rank = int(ratio * size / term + ROUNDING)
    if rank < 1:
        raise ValueError(f"ratio is {ratio}; one term has {term / size:.2g} of the parameters already")
    return rank


def _terms(tensor: np.ndarray, rank: int | None, error: float | None, correction: bool, seed: int) -> Factors:
    if tensor.ndim == 2:
        left, right = low_rank(tensor, rank=rank, error=error)
        return left, right.T
    if rank is not None:
        terms = fit(tensor, min(rank, full_rank(tensor.shape)), seed)
    else:
        terms = fit_to_error(tensor, error or 0.0, seed)
    reached = relative_error(tensor, outer(terms))
    if not correction or reached < EXACT:
        return terms
    bound = (1 + ALLOWANCE) * reached
    return correct(tensor, terms, bound if error is None else min(bound, max(reached, error - ROUNDING)))


def _factors(weight: np.ndarray, terms: Factors) -> CPFactors:
    """``terms`` in float32, with ones for the sides that were left out, and their error."""
    output, inputs, *sides = (np.ascontiguousarray(part, np.float32) for part in terms)
    ones = np.ones((output.shape[1], 1), np.float32)
    column, row = (
        np.ascontiguousarray(sides.pop(0).T) if extent > 1 else ones for extent in weight.shape[2:]
    )
    found = CPFactors(np.ascontiguousarray(inputs.T), column, row, output, 0.0)
    return replace(found, error=relative_error(weight, found.weight))
