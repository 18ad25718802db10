"""Layer, group and instance norms: ``(x − mean) / sqrt(variance + ε) · gamma + beta``, exact however large the mean is.

The variance is that of the differences from a rough mean, corrected by their own sum (two passes: Chan, Golub, LeVeque,
The American Statistician 37, 1983, equation 1.7). TVM's own takes E[x²] − E[x]², which cancels: NaN at a mean of 1000
and a deviation of 0.01.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import tvm
from tvm import te, tirx

from .window import extents

Index = Sequence[tvm.ir.Expr]


def norm_reference(x: np.ndarray, axes: Sequence[int], epsilon: float) -> np.ndarray:
    """Normalise float32 ``x`` over ``axes``, without gamma and beta, in float64."""
    wide = x.astype(np.float64)
    centred = wide - wide.mean(tuple(axes), keepdims=True)
    variance = (centred**2).mean(tuple(axes), keepdims=True)
    return np.asarray(centred / np.sqrt(variance + epsilon), np.float32)


def layer_norm(
    data: te.Tensor, gamma: te.Tensor, beta: te.Tensor, *, axes: Sequence[int], epsilon: float
) -> te.Tensor:
    """Normalise over ``axes``; ``gamma`` and ``beta`` have their shape.

    Parameters
    ----------
    data : Tensor, float32
        Its sizes along ``axes`` are known.
    """
    axes = [axis % len(data.shape) for axis in axes]
    kept = [axis for axis in range(len(data.shape)) if axis not in axes]

    def read(at: Index, over: Index) -> tvm.ir.Expr:
        place = dict(zip([*kept, *axes], [*at[: len(kept)], *over], strict=True))
        return data(*(place[axis] for axis in range(len(data.shape))))

    return _normalized(
        data,
        read,
        [data.shape[axis] for axis in kept],
        [int(data.shape[axis]) for axis in axes],
        lambda i: [i[axis] for axis in kept],
        lambda i: (gamma(*(i[axis] for axis in axes)), beta(*(i[axis] for axis in axes))),
        epsilon,
    )


def group_norm(
    data: te.Tensor,
    gamma: te.Tensor,
    beta: te.Tensor,
    *,
    groups: int,
    channel_axis: int,
    axes: Sequence[int],
    epsilon: float,
) -> te.Tensor:
    """Normalise over ``axes`` and the channels of each group; ``gamma`` and ``beta`` are (c,).

    An instance norm is one of as many groups as channels.

    Parameters
    ----------
    data : Tensor, float32
        The channels and its sizes along ``axes`` are known.
    """
    rank = len(data.shape)
    channel, axes = channel_axis % rank, [axis % rank for axis in axes]
    per_group = int(data.shape[channel]) // groups
    kept = [axis for axis in range(rank) if axis != channel and axis not in axes]

    def read(at: Index, over: Index) -> tvm.ir.Expr:
        place = dict(zip([*kept, *axes], [*at[:-1], *over[1:]], strict=True))
        place[channel] = at[-1] * per_group + over[0]
        return data(*(place[axis] for axis in range(rank)))

    return _normalized(
        data,
        read,
        [*(data.shape[axis] for axis in kept), groups],
        [per_group, *(int(data.shape[axis]) for axis in axes)],
        lambda i: [*(i[axis] for axis in kept), tirx.floordiv(i[channel], per_group)],
        lambda i: (gamma(i[channel]), beta(i[channel])),
        epsilon,
    )


def _normalized(
    data: te.Tensor,
    read: Callable[[Index, Index], tvm.ir.Expr],
    kept: Sequence[tvm.ir.Expr | int],
    reduced: Sequence[int],
    statistics_of: Callable[[Index], Index],
    affine_of: Callable[[Index], tuple[tvm.ir.Expr, tvm.ir.Expr]],
    epsilon: float,
) -> te.Tensor:
    """Normalise ``data``.

    Parameters
    ----------
    read
        The value at (place among the statistics, place in the sum).
    kept, reduced
        Sizes of the statistics and of the sums.
    statistics_of, affine_of
        Of a place in ``data``: the place of its statistics, and its gamma and beta.
    """
    share = tirx.const(1 / math.prod(reduced), "float32")
    sizes = extents(*(kept or [1]))  # a tensor without axes has no schedule

    def summed(value: Callable[[Index, Index], tvm.ir.Expr], name: str) -> te.Tensor:
        axes = [te.reduce_axis((0, size), name=f"{name}_{i}") for i, size in enumerate(reduced)]
        return te.compute(sizes, lambda *at: te.sum(value(at, [a.var for a in axes]), axis=axes), name=name)

    rough = summed(read, "rough")

    def difference(at: Index, over: Index) -> tvm.ir.Expr:
        return read(at, over) - rough(*at) * share

    offset = summed(difference, "offset")
    spread = summed(lambda at, over: difference(at, over) * difference(at, over), "spread")

    def value(*i: tvm.ir.Expr) -> tvm.ir.Expr:
        at = statistics_of(i) or [0]
        mean_offset = offset(*at) * share
        variance = spread(*at) * share - mean_offset * mean_offset
        gamma, beta = affine_of(i)
        centred = data(*i) - rough(*at) * share - mean_offset
        return centred * tirx.rsqrt(variance + tirx.const(epsilon, "float32")) * gamma + beta

    return te.compute(data.shape, value, name="normalized")
