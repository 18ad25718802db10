"""Whether what a candidate computes is what its operator is to compute, and all of it."""

from collections.abc import Callable, Hashable

import numpy as np

TOLERANCE = 2e-5
"""Of floats, relative to the largest output: what a layer may differ by from plain float32; Winograd comes closest."""

TOLERANCES = {"tf32_conv2d": 2e-4}
"""Of operators that compute otherwise: tensor cores cut off what they add, by how much is not documented."""

_expected: dict[Hashable, np.ndarray] = {}


def expected_answer(task: Hashable, reference: Callable[[], np.ndarray]) -> np.ndarray:
    """What ``reference`` returns, which is slow: asked once for all candidates of a task that follow each other."""
    if task not in _expected:
        _expected.clear()
        _expected[task] = reference()
    return _expected[task]


def unset(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Room for a result: nan, or 0xAA in every byte, so that what is not written does not look right by chance."""
    return np.full(shape, np.nan if dtype.startswith("float") else -86).astype(dtype)


def check_answer(got: np.ndarray, want: np.ndarray, op: str = "") -> None:
    """Compare an answer of ``op`` with the reference: integers are equal, floats within a tolerance of the largest.

    Raises
    ------
    ValueError
        It differs.
    """
    if got.shape != want.shape:
        raise ValueError(f"wrong answer: shape {got.shape}, not {want.shape}")
    if np.issubdtype(want.dtype, np.floating):
        largest = np.abs(want).max(initial=0.0)
        difference = np.abs(got.astype(np.float64) - want).max(initial=0.0)
        if not difference <= TOLERANCES.get(op, TOLERANCE) * largest or np.isinf(difference):
            raise ValueError(
                f"wrong answer: off by {difference / max(largest, 1e-30):.0e} of the largest value"
            )
    elif not np.array_equal(got, want):
        raise ValueError(f"wrong answer: {np.mean(got != want):.0%} of the values differ")
