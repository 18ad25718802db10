"""Padding of convolutions of few-level values: which taps lie inside the plane, and what the others add.

A padded tap holds a value of its own, not what level 0 stands for. What that changes depends on the filter and on which
taps of it lie outside: nothing of the data. It is therefore a table, with an entry for every distinct set of taps: few,
since all rows and columns but those at the border see all taps.
"""

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import tirx

from .conv2d import Conv2dParams


@dataclass(frozen=True, kw_only=True)
class FewLevelParams:
    """A convolution of ``x = step · q + offset`` with unsigned integers q, apart from its data.

    Attributes
    ----------
    conv : Conv2dParams
        Its geometry, ``data_layout`` "NHWC".
    channels : int
        Input channels.
    step, offset : int
    padding_value : int
        What padded taps hold, in units of x.
    """

    conv: Conv2dParams
    channels: int
    step: int = 2
    offset: int = -1
    padding_value: int = 0


def border_classes(params: FewLevelParams, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Which taps lie inside the plane, for every distinct row and column of outputs.

    Returns
    -------
    rows, columns : ndarray of bool, (classes, kernel extent)
        In the order of `class_of`.
    """
    taps = _taps_inside(params, height, width)
    return tuple(  # type: ignore[return-value]
        inside[sorted({_class(*_border(inside), y): y for y in range(len(inside))}.values())]
        for inside in taps
    )


def offset_table(weight: np.ndarray, params: FewLevelParams, height: int, width: int) -> np.ndarray:
    """What offset and padding add to ``step · Σ q · weight``, int64 (row classes, column classes, o).

    Parameters
    ----------
    weight : ndarray, (o, c / groups, kh, kw), integers
    """
    taps = weight.sum(1)
    rows, columns = border_classes(params, height, width)
    inside = np.einsum("okl,rk,cl->rco", taps, rows.astype(np.int64), columns.astype(np.int64))
    return params.offset * inside + params.padding_value * (taps.sum((1, 2)) - inside)


def class_of(params: FewLevelParams, height: int, width: int, y: tirx.Var, x: tirx.Var) -> tuple:
    """Row and column class of the output at (y, x), as index expressions."""
    return tuple(
        _class(*_border(inside), at)
        for inside, at in zip(_taps_inside(params, height, width), (y, x), strict=True)
    )


def _taps_inside(params: FewLevelParams, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """For each axis: bool (outputs, kernel extent)."""
    conv, out = params.conv, params.conv.output_size(height, width)
    masks = []
    for axis, size in enumerate((height, width)):
        at = np.arange(out[axis])[:, None] * conv.stride[axis] - conv.padding[axis]
        at = at + np.arange(conv.kernel[axis]) * conv.dilation[axis]
        masks.append((at >= 0) & (at < size))
    return masks[0], masks[1]


def _border(inside: np.ndarray) -> tuple[int, int]:
    """Outputs before and up to the end of the longest run that sees the same taps as its middle."""
    middle = inside[len(inside) // 2]
    same = (inside == middle).all(axis=1)
    first = last = len(inside) // 2
    while first > 0 and same[first - 1]:
        first -= 1
    while last + 1 < len(inside) and same[last + 1]:
        last += 1
    return first, last


def _class(first: int, last: int, at: int | tirx.Var) -> int | tvm.ir.Expr:
    """Outputs before ``first`` and after ``last`` are classes of their own, those between are one."""
    if isinstance(at, int):
        return min(at, first) + max(at - last, 0)
    before = tirx.min(at, first) if first else 0
    return before + tirx.max(at - last, 0)
