"""A chain of convolutions for one: from the factors of its weight to the weights of the stages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_fastconv.configs import CP, DepthwiseSeparable, FixedStencil, Method, SpatialSeparable, Tucker

from .chain_stages import Stage, cp_stages, fixed_stages, separable_stages, spatial_stages, tucker_stages
from .cp import cp
from .depthwise_separable import depthwise_separable
from .fixed_stencil import fixed_stencil
from .spatial import spatial
from .tucker import tucker


@dataclass(frozen=True)
class FactorChain:
    """What a layer becomes.

    Attributes
    ----------
    method : str
        As reports spell it.
    what : str
        The method in words, with its ranks.
    stages : tuple of Stage
    weights : tuple of ndarray, float32
        Of the stages, in their shapes.
    parameters : int
        Those that depend on the layer.
    error : float
        Of the weight, relative (Frobenius norm).
    """

    method: str
    what: str
    stages: tuple[Stage, ...]
    weights: tuple[np.ndarray, ...]
    parameters: int
    error: float


def no_use_for_factors(config: Method, kernel: tuple[int, int], groups: int) -> str | None:
    """Why a convolution has no use for the factors that ``config``, one of `CHAINS`, asks for, if so."""
    if groups > 1:
        return f"it has {groups} groups"
    if kernel == (1, 1):
        return "its kernel is 1×1"
    if isinstance(config, FixedStencil) and kernel != (3, 3):
        return f"its kernel is {kernel[0]}×{kernel[1]}, and the stencils are 3×3"
    if isinstance(config, SpatialSeparable) and 1 in kernel:
        return f"its kernel is {kernel[0]}×{kernel[1]}"
    return None


def chain_of(weight: np.ndarray, config: Method) -> FactorChain:
    """The chain for ``weight`` (o, c, kh, kw), float32, that ``config``, one of `CHAINS`, asks for.

    Raises
    ------
    ValueError
        The weight cannot be approximated so.
    """
    return CHAINS[type(config)](weight, config)


def _chain(
    method: str, what: str, stages: tuple[Stage, ...], factors: dict[str, np.ndarray], error: float
) -> FactorChain:
    """Of ``factors`` by the names of the stages; there may be more of them than stages."""
    weights = tuple(factors[stage.name].reshape(stage.shape) for stage in stages)
    size = sum(weight.size for stage, weight in zip(stages, weights, strict=True) if stage.name != "stencils")
    return FactorChain(method, what, stages, weights, size, error)


def _cp(weight: np.ndarray, config: CP) -> FactorChain:
    found = cp(weight, rank=config.rank, ratio=config.ratio, error=config.error)
    rank = len(found.input)
    factors = {"input": found.input, "column": found.column, "row": found.row, "output": found.output}
    return _chain("cp", f"CP of rank {rank}", cp_stages(weight.shape, rank), factors, found.error)


def _tucker(weight: np.ndarray, config: Tucker) -> FactorChain:
    found = tucker(weight, ranks=config.ranks, error=config.error)
    p, q = found.core.shape[:2]
    factors = {"input": found.input, "core": found.core, "output": found.output}
    stages = tucker_stages(weight.shape, (q, p))
    return _chain("tucker", f"Tucker of ranks {q} and {p}", stages, factors, found.error)


def _spatial(weight: np.ndarray, config: SpatialSeparable) -> FactorChain:
    channels = None if config.rank is None else config.rank * len(weight)
    found = spatial(weight, channels=channels, error=config.error)
    count = len(found.column)
    what = f"{weight.shape[2]}×1 and 1×{weight.shape[3]} with {count} channels between"
    factors = {"column": found.column, "row": found.row}
    return _chain("spatial", what, spatial_stages(weight.shape, count), factors, found.error)


def _separable(weight: np.ndarray, config: DepthwiseSeparable) -> FactorChain:
    found = depthwise_separable(weight, multiplier=config.multiplier)
    multiplier = len(found.depthwise) // weight.shape[1]
    what = f"depthwise separable with multiplier {multiplier}"
    factors = {"depthwise": found.depthwise, "pointwise": found.pointwise}
    return _chain("separable", what, separable_stages(weight.shape, multiplier), factors, found.error)


def _fixed(weight: np.ndarray, _config: FixedStencil) -> FactorChain:
    found = fixed_stencil(weight)
    factors = {"stencils": found.depthwise, "pointwise": found.pointwise}
    return _chain("fixed", "five fixed stencils", fixed_stages(weight.shape), factors, found.error)


CHAINS: dict[type, Callable[[np.ndarray, Any], FactorChain]] = {
    CP: _cp,
    Tucker: _tucker,
    SpatialSeparable: _spatial,
    DepthwiseSeparable: _separable,
    FixedStencil: _fixed,
}
"""Config to what makes the chain."""
