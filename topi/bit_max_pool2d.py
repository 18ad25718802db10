"""Max pooling of packed bits: the largest of ±1 is +1 if any is."""

import numpy as np
import tvm
from tvm import te, tirx

from .bits import WORD
from .conv2d import Conv2dParams
from .window import extents


def bit_max_pool2d_reference(words: np.ndarray, params: Conv2dParams) -> np.ndarray:
    """Slow, obvious: (n, h, w, words) → (n, oh, ow, words), uint32; padding counts as no bit."""
    n, h, w, count = words.shape
    oh, ow = params.output_size(h, w)
    out = np.zeros((n, oh, ow, count), np.uint32)
    for y in range(oh):
        for x in range(ow):
            for r in range(params.kernel[0]):
                for c in range(params.kernel[1]):
                    row = y * params.stride[0] + r * params.dilation[0] - params.padding[0]
                    col = x * params.stride[1] + c * params.dilation[1] - params.padding[1]
                    if 0 <= row < h and 0 <= col < w:
                        out[:, y, x] |= words[:, row, col]
    return out


def bit_max_pool2d(
    words: te.Tensor, flip: te.Tensor | None = None, *, params: Conv2dParams, attrs: dict[str, str]
) -> te.Tensor:
    """Union of the bits under each window.

    Parameters
    ----------
    words : Tensor, (n, h, w, words), uint32
    flip : Tensor, (words,), uint32, optional
        Bits to turn afterwards.

    Returns
    -------
    Tensor, (n, oh, ow, words), uint32
    """
    n, h, w, count = words.shape
    oh, ow = params.output_size(int(h), int(w))

    def tap(b: tirx.Var, y: tirx.Var, x: tirx.Var, at: tirx.Var, r: int, c: int) -> tvm.ir.Expr:
        row = y * params.stride[0] + r * params.dilation[0] - params.padding[0]
        col = x * params.stride[1] + c * params.dilation[1] - params.padding[1]
        inside = tirx.all(row >= 0, row < h, col >= 0, col < w)
        return tirx.if_then_else(inside, words[b, row, col, at], tirx.const(0, WORD))

    def union(b: tirx.Var, y: tirx.Var, x: tirx.Var, at: tirx.Var) -> tvm.ir.Expr:
        result = tirx.const(0, WORD) if flip is None else None
        for r in range(params.kernel[0]):
            for c in range(params.kernel[1]):
                bits = tap(b, y, x, at, r, c)
                result = bits if result is None else result | bits
        return result if flip is None else result ^ flip[at]

    return te.compute(extents(n, oh, ow, count), union, name="bit_max_pool2d", attrs=attrs)
