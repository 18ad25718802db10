"""Dictionary and coefficients to start training from: `decompose.lookup` of each group, as large as first weights."""

import dataclasses
from typing import Any

import numpy as np

from tvm_fastconv.configs import Lookup
from tvm_fastconv.decompose.lookup import LookupFactors, lookup
from tvm_fastconv.decompose.weights import relative_error
from tvm_fastconv.errors import MethodError


def check_size(dictionary_size: int, most: int) -> None:
    """Refuse a dictionary with more vectors than filters and taps.

    Raises
    ------
    MethodError
    """
    if (
        isinstance(dictionary_size, bool)
        or not isinstance(dictionary_size, int)
        or not 1 <= dictionary_size <= most
    ):
        raise MethodError(f"dictionary_size is {dictionary_size!r}; allowed: 1 to {most}")


def fresh_options(config: Lookup) -> dict[str, Any]:
    """Arguments of a layer with first weights of its own, for what ``config`` asks.

    Raises
    ------
    MethodError
        It names no dictionary size, or asks for an error, which depends on weights.
    """
    if config.dictionary_size is None or config.error is not None:
        raise MethodError(
            f"{config!r}; allowed for a layer with first weights of its own: a dictionary_size and a density"
        )
    return {"dictionary_size": config.dictionary_size}


def grouped_lookup(weight: np.ndarray, config: Lookup, groups: int) -> LookupFactors:
    """Factors of ``weight`` (o, c / groups, kh, kw): dictionary (groups · k, c / groups), coefficients (o, k, kh, kw).

    The largest coefficient is as large as PyTorch's largest first weight would be, and the dictionary makes up for it.

    Raises
    ------
    MethodError
        ``config`` names no dictionary size, or the weight cannot be approximated so.
    """
    if config.dictionary_size is None:
        raise MethodError("dictionary_size is None; allowed for a layer to train: 1 or more")
    try:
        found = [lookup(part, **dataclasses.asdict(config)) for part in np.split(weight, groups)]
    except ValueError as refused:
        raise MethodError(str(refused)) from None
    dictionary = np.concatenate([factors.dictionary for factors in found])
    coefficients = np.concatenate([factors.coefficients for factors in found])
    error = relative_error(weight, np.concatenate([factors.weight for factors in found]))
    largest = np.abs(coefficients).max() * np.sqrt(coefficients[0].size)
    if largest > 0:
        dictionary, coefficients = dictionary * largest, coefficients / largest
    return LookupFactors(dictionary.astype(np.float32), coefficients.astype(np.float32), error)
