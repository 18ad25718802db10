"""Which convolutions, one after the other, stand for one: from the factors of its weight to weights and geometry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_fastconv.configs import CP, DepthwiseSeparable, FixedStencil, Method, SpatialSeparable, Tucker

from .cp import cp
from .depthwise_separable import depthwise_separable
from .fixed_stencil import fixed_stencil
from .spatial import spatial
from .tucker import tucker


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a convolution walks over a plane: (height, width), and padding at (top, left, bottom, right)."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class FactorLayer:
    """One convolution of a chain.

    Attributes
    ----------
    name : str
        What it adds to the layer's name; the last stage has the layer's own.
    weight : ndarray, (o, c / groups, kh, kw), float32
    groups : int
    rows, columns : bool
        Whether it takes the layer's stride, padding and dilation along the height, and along the width.
    """

    name: str
    weight: np.ndarray
    groups: int = 1
    rows: bool = False
    columns: bool = False

    def geometry(self, layer: Geometry) -> Geometry:
        """Its part of the layer's stride, padding and dilation."""
        (top, left, bottom, right), rows, columns = layer.padding, self.rows, self.columns
        return Geometry(
            stride=(layer.stride[0] if rows else 1, layer.stride[1] if columns else 1),
            padding=(top * rows, left * columns, bottom * rows, right * columns),
            dilation=(layer.dilation[0] if rows else 1, layer.dilation[1] if columns else 1),
        )


@dataclass(frozen=True)
class FactorChain:
    """What a layer becomes.

    Attributes
    ----------
    method : str
        As reports spell it.
    what : str
        The method in words, with its ranks.
    stages : tuple of FactorLayer
    parameters : int
        Those that depend on the layer.
    error : float
        Of the weight, relative (Frobenius norm).
    """

    method: str
    what: str
    stages: tuple[FactorLayer, ...]
    parameters: int
    error: float


def chain_of(weight: np.ndarray, config: Method) -> FactorChain:
    """The chain for ``weight`` (o, c, kh, kw), float32, that ``config``, one of `CHAINS`, asks for.

    Raises
    ------
    ValueError
        The weight cannot be approximated so.
    """
    return CHAINS[type(config)](weight, config)


def _cp(weight: np.ndarray, config: CP) -> FactorChain:
    found = cp(weight, rank=config.rank, ratio=config.ratio, error=config.error)
    rank, sides = len(found.input), []
    tall, wide = weight.shape[2] > 1, weight.shape[3] > 1
    if tall:
        kernel = found.column[:, None, :, None]
        sides.append(FactorLayer("column", kernel, rank, rows=True, columns=not wide))
    if wide:
        kernel = found.row[:, None, None, :]
        sides.append(FactorLayer("row", kernel, rank, rows=not tall, columns=True))
    stages = (
        FactorLayer("input", _pointwise(found.input)),
        *sides,
        FactorLayer("", _pointwise(found.output)),
    )
    return FactorChain("cp", f"CP of rank {rank}", stages, _size(stages), found.error)


def _tucker(weight: np.ndarray, config: Tucker) -> FactorChain:
    found = tucker(weight, ranks=config.ranks, error=config.error)
    o, c = weight.shape[:2]
    p, q = found.core.shape[:2]
    last = FactorLayer("core" if p < o else "", found.core, rows=True, columns=True)
    stages = (
        *([FactorLayer("input", _pointwise(found.input))] if q < c else []),
        last,
        *([FactorLayer("", _pointwise(found.output))] if p < o else []),
    )
    return FactorChain("tucker", f"Tucker of ranks {q} and {p}", stages, _size(stages), found.error)


def _spatial(weight: np.ndarray, config: SpatialSeparable) -> FactorChain:
    channels = None if config.rank is None else config.rank * len(weight)
    found = spatial(weight, channels=channels, error=config.error)
    stages = (
        FactorLayer("column", found.column, rows=True),
        FactorLayer("", found.row, columns=True),
    )
    what = f"{weight.shape[2]}×1 and 1×{weight.shape[3]} with {len(found.column)} channels between"
    return FactorChain("spatial", what, stages, _size(stages), found.error)


def _separable(weight: np.ndarray, config: DepthwiseSeparable) -> FactorChain:
    found = depthwise_separable(weight, multiplier=config.multiplier)
    channels = weight.shape[1]
    stages = (
        FactorLayer("depthwise", found.depthwise, channels, rows=True, columns=True),
        FactorLayer("", found.pointwise),
    )
    what = f"depthwise separable with multiplier {len(found.depthwise) // channels}"
    return FactorChain("separable", what, stages, _size(stages), found.error)


def _fixed(weight: np.ndarray, _config: FixedStencil) -> FactorChain:
    found = fixed_stencil(weight)
    stages = (
        FactorLayer("stencils", found.depthwise, weight.shape[1], rows=True, columns=True),
        FactorLayer("", found.pointwise),
    )
    return FactorChain("fixed", "five fixed stencils", stages, found.pointwise.size, found.error)


def _pointwise(matrix: np.ndarray) -> np.ndarray:
    return matrix[:, :, None, None]


def _size(stages: tuple[FactorLayer, ...]) -> int:
    return sum(stage.weight.size for stage in stages)


CHAINS: dict[type, Callable[[np.ndarray, Any], FactorChain]] = {
    CP: _cp,
    Tucker: _tucker,
    SpatialSeparable: _spatial,
    DepthwiseSeparable: _separable,
    FixedStencil: _fixed,
}
"""Config to what makes the chain."""
