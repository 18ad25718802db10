"""What every decomposition asks of a weight and of its parameters, and how it measures what it missed."""

import numpy as np

ROUNDING = 1e-7
"""Of float32: what a relative error asked for leaves to the rounding of the factors."""


def check_weight(weight: np.ndarray) -> None:
    """Refuse what is no weight (o, c, kh, kw) of a convolution.

    Raises
    ------
    ValueError
        It has another number of dimensions, is empty, or is not finite.
    """
    if weight.ndim != 4 or not weight.size:
        raise ValueError(f"weight has shape {weight.shape}; allowed: (o, c, kh, kw), none of them 0")
    if not np.isfinite(weight).all():
        raise ValueError("weight holds NaN or infinity; allowed: finite values")


def check_parameters(**values: int | float | None) -> None:
    """Refuse parameters of which not exactly one is set, or with a value that is not allowed.

    Parameters
    ----------
    values
        ``error`` is above 0 and below 1, ``ratio`` above 0 and at most 1; all others are 1 or more.

    Raises
    ------
    ValueError
    """
    if sum(value is not None for value in values.values()) != 1:
        *first, last = [f"{name} is {value}" for name, value in values.items()]
        raise ValueError(f"{', '.join(first)} and {last}; allowed: one of them, the others None")
    for name, value in values.items():
        if value is None:
            continue
        if name == "error" and not 0 < value < 1:
            raise ValueError(f"error is {value}; allowed: above 0, below 1")
        if name == "ratio" and not 0 < value <= 1:
            raise ValueError(f"ratio is {value}; allowed: above 0, at most 1")
        if name not in ("error", "ratio"):
            check_count(name, value)


def check_count(name: str, value: int | float) -> None:
    """Refuse a number of channels or terms that is no integer from 1.

    Raises
    ------
    ValueError
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; allowed: 1 or more")


def relative_error(weight: np.ndarray, approximation: np.ndarray) -> float:
    """``‖weight − approximation‖ / ‖weight‖`` (Frobenius norm), 0 for a weight of zeros."""
    size = np.linalg.norm(weight.astype(np.float64))
    return float(np.linalg.norm(weight - approximation.astype(np.float64)) / size) if size else 0.0
