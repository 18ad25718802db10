"""Exponential, sigmoid, SiLU and softmax that stay in vectors.

LLVM has no vector exponential of its own and calls libm lane by lane (EfficientNet-B0 spends half its time there).
Here ``exp(x) = 2^n · exp(r)`` with n = round(x / ln 2) and |r| ≤ ln 2 / 2, where the Taylor series of degree 7 is
within 5e-9 of exp(r), a tenth of float32's own rounding.
"""

import math
from collections.abc import Callable

import numpy as np
import tvm
from tvm import te, tirx

LARGEST = 88.722839
"""ln of the largest float32; anything above is infinite."""

SMALLEST = -103.97208
"""ln of half the smallest float32; anything below rounds to zero."""

LN2_HIGH, LN2_LOW = 355.0 / 512.0, math.log(2) - 355.0 / 512.0
"""ln 2 in two parts: n times the first is exact in float32, so r keeps all its bits."""


def exp_reference(data: np.ndarray) -> np.ndarray:
    """``e^data`` in float64, rounded to float32."""
    with np.errstate(over="ignore"):
        return np.exp(data.astype(np.float64)).astype(np.float32)


def exp_value(x: tvm.ir.Expr) -> tvm.ir.Expr:
    """``e^x`` of one float32 expression."""
    n, r = split_exponent(tirx.max(tirx.min(x, _number(LARGEST)), _number(SMALLEST)))
    series = _number(1 / math.factorial(7))
    for degree in range(6, -1, -1):
        series = series * r + _number(1 / math.factorial(degree))
    # In two steps, since 2^128 and 2^-149 are no normal float32.
    whole = tirx.Cast("int32", n)
    half = whole >> tirx.const(1, "int32")
    value = series * power_of_two(half) * power_of_two(whole - half)
    return tirx.Select(x > _number(LARGEST), _number(math.inf), value)


def split_exponent(x: tvm.ir.Expr) -> tuple[tvm.ir.Expr, tvm.ir.Expr]:
    """``(n, r)`` with ``x = n · ln 2 + r``, n a whole float32 and |r| ≤ ln 2 / 2."""
    n = tirx.floor(x * _number(1 / math.log(2)) + _number(0.5))
    return n, x - n * _number(LN2_HIGH) - n * _number(LN2_LOW)


def _number(value: float) -> tvm.ir.Expr:
    return tirx.const(value, "float32")


def power_of_two(exponent: tvm.ir.Expr) -> tvm.ir.Expr:
    """2 to an int32 in -126..127, put together from its bits."""
    return tirx.reinterpret("float32", (exponent + tirx.const(127, "int32")) << tirx.const(23, "int32"))


def exp(data: te.Tensor) -> te.Tensor:
    """``e^data``, any shape, float32; within 2 ulp of the exact value."""
    return te.compute(data.shape, lambda *at: exp_value(data[at]), name="exp")


def sigmoid(data: te.Tensor) -> te.Tensor:
    """``1 / (1 + e^-data)``, any shape, float32."""
    one = tirx.const(1, data.dtype)
    return te.compute(data.shape, lambda *at: one / (one + exp_value(-data[at])), name="sigmoid")


def silu(data: te.Tensor) -> te.Tensor:
    """``data · sigmoid(data)``, any shape, float32."""
    one = tirx.const(1, data.dtype)
    return te.compute(data.shape, lambda *at: data[at] / (one + exp_value(-data[at])), name="silu")


def softmax(data: te.Tensor, axis: int) -> te.Tensor:
    """``e^(data - max) / sum(e^(data - max))`` along ``axis``, any shape, float32."""
    axis %= len(data.shape)

    def others(at: tuple) -> tuple:
        return (*at[:axis], *at[axis + 1 :])

    def along(reduce: Callable[..., tvm.ir.Expr], source: te.Tensor, name: str) -> te.Tensor:
        k = te.reduce_axis((0, data.shape[axis]), "k")
        shape = others(tuple(data.shape))
        return te.compute(shape, lambda *at: reduce(source[(*at[:axis], k, *at[axis:])], axis=k), name=name)

    largest = along(te.max, data, "softmax_max")
    powers = te.compute(data.shape, lambda *at: exp_value(data[at] - largest[others(at)]), name="softmax_exp")
    total = along(te.sum, powers, "softmax_sum")
    return te.compute(data.shape, lambda *at: powers[at] / total[others(at)], name="softmax")
