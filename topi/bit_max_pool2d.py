"""Max pooling of packed bits: the largest of ±1 is +1 if any is."""

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import te, tirx

from .bits import WORD
from .conv2d import Conv2dParams
from .machine import Machine
from .operators import Sample, operator_attrs, register_knobs, register_operator, te_function
from .problem import Problem
from .schedules.cpu.rows import RowKnobs
from .schedules.cuda.words import WordKnobs
from .window import extents


@dataclass(frozen=True, kw_only=True)
class BitPoolProblem(Problem):
    """Windows over a plane of ``words``; ``in_height`` and ``in_width`` are the input's, ``height`` the output's."""

    in_height: int
    in_width: int
    words: int
    window: Conv2dParams
    flips: bool = False

    @property
    def height(self) -> int:
        """Rows of the output."""
        return self.window.output_size(self.in_height, self.in_width)[0]

    @property
    def operations(self) -> float:
        """Of a row: a load and a union for each tap."""
        columns = self.window.output_size(self.in_height, self.in_width)[1]
        return 2.0 * columns * self.words * self.window.kernel[0] * self.window.kernel[1]


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


def make_bit_max_pool2d(
    problem: BitPoolProblem, knobs: RowKnobs | WordKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`bit_max_pool2d` alone."""
    shape = (problem.batch, problem.in_height, problem.in_width, problem.words)
    data = rng.integers(0, 1 << 32, shape, np.uint32)
    flip = (rng.integers(0, 1 << 32, problem.words, np.uint32),) if problem.flips else ()
    attrs = operator_attrs("bit_max_pool2d", problem, knobs)
    func = te_function(bit_max_pool2d, (data, *flip), params=problem.window, attrs=attrs)

    def reference() -> np.ndarray:
        union = bit_max_pool2d_reference(data, problem.window)
        return union ^ flip[0] if flip else union

    return Sample(func, (data, *flip), reference)


register_operator("bit_max_pool2d", BitPoolProblem)
register_knobs("llvm", "bit_max_pool2d", RowKnobs, make_bit_max_pool2d)
register_knobs("cuda", "bit_max_pool2d", WordKnobs, make_bit_max_pool2d)
