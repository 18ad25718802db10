"""Functions that subtract nearly equal numbers when they are written down as usual, without doing so.

``e^x − 1``, ``log(1 + x)`` and what is made of them keep all bits of a small result: TVM's own ``tanh`` of 1e-8 is 0.
All of them are for float32 of any shape, and all but the logarithms stay in vectors.
"""

import math

import tvm
from tvm import te, tirx

from .exponential import LARGEST, exp_value, power_of_two, split_exponent

SERIES = 9
"""Degree of the Taylor series of ``e^r − 1``, |r| ≤ ln 2 / 2: the next term is 7e-12 of r."""

ATANH_SERIES = 15
"""Degree of the series of ``atanh``."""


def _number(value: float) -> tvm.ir.Expr:
    return tirx.const(value, "float32")


def expm1_value(x: tvm.ir.Expr) -> tvm.ir.Expr:
    """``e^x − 1`` of one float32 expression: ``2^n · (e^r − 1) + (2^n − 1)``."""
    inside = tirx.max(tirx.min(x, _number(LARGEST)), _number(-20.0))  # e^-20 is below half an ulp of 1
    n, r = split_exponent(inside)
    series = _number(1 / math.factorial(SERIES))
    for degree in range(SERIES - 1, 0, -1):
        series = series * r + _number(1 / math.factorial(degree))
    half = power_of_two(tirx.Cast("int32", n) - tirx.const(1, "int32"))  # 2^128 is no float32
    value = (series * r * half + (half - _number(0.5))) * _number(2.0)
    return tirx.Select(x > _number(LARGEST), _number(math.inf), value)


def _atanh_series(x: tvm.ir.Expr) -> tvm.ir.Expr:
    """``x + x^3 / 3 + x^5 / 5 + ...`` for |x| ≤ 1/3, where the next term is below 3e-9 of x."""
    square = x * x
    series = _number(1 / ATANH_SERIES)
    for degree in range(ATANH_SERIES - 2, 0, -2):
        series = series * square + _number(1 / degree)
    return series * x


def log1p_value(x: tvm.ir.Expr) -> tvm.ir.Expr:
    """``log(1 + x)`` of one float32 expression; ``2 · atanh(x / (2 + x))`` where that is small."""
    near = _atanh_series(x / (x + _number(2.0))) * _number(2.0)
    return tirx.Select(tirx.abs(x) < _number(0.5), near, tirx.log(x + _number(1)))


def tanh(data: te.Tensor) -> te.Tensor:
    """``−t / (t + 2)`` with ``t = e^(−2|x|) − 1``, with the sign of x."""

    def value(x: tvm.ir.Expr) -> tvm.ir.Expr:
        fall = expm1_value(tirx.abs(x) * _number(-2.0))
        size = -fall / (fall + _number(2.0))
        return tirx.Select(x < _number(0), -size, size)

    return te.compute(data.shape, lambda *at: value(data[at]), name="tanh")


def sinh(data: te.Tensor) -> te.Tensor:
    """``(t + t / (t + 1)) / 2`` with ``t = e^|x| − 1``, with the sign of x; beyond 20, ``(e^(x/2))^2 / 2``."""

    def value(x: tvm.ir.Expr) -> tvm.ir.Expr:
        size = tirx.abs(x)
        rise = expm1_value(tirx.min(size, _number(20.0)))
        root = exp_value(size * _number(0.5))
        near = (rise + rise / (rise + _number(1))) * _number(0.5)
        result = tirx.Select(size > _number(20.0), root * _number(0.5) * root, near)
        return tirx.Select(x < _number(0), -result, result)

    return te.compute(data.shape, lambda *at: value(data[at]), name="sinh")


def cosh(data: te.Tensor) -> te.Tensor:
    """``(e^|x| + e^-|x|) / 2``, as ``e^(|x|/2)`` twice: the half of an infinite one may be finite."""

    def value(x: tvm.ir.Expr) -> tvm.ir.Expr:
        root = exp_value(tirx.abs(x) * _number(0.5))
        half = root * _number(0.5)
        return half * root + _number(0.5) / (root * root)

    return te.compute(data.shape, lambda *at: value(data[at]), name="cosh")


def atanh(data: te.Tensor) -> te.Tensor:
    """``log((1 + x) / (1 − x)) / 2``, or its series where x is small."""

    def value(x: tvm.ir.Expr) -> tvm.ir.Expr:
        far = tirx.log((_number(1) + x) / (_number(1) - x)) * _number(0.5)
        return tirx.Select(tirx.abs(x) < _number(1 / 3), _atanh_series(x), far)

    return te.compute(data.shape, lambda *at: value(data[at]), name="atanh")


def softplus(data: te.Tensor, beta: float, threshold: float) -> te.Tensor:
    """``log(1 + e^(beta·x)) / beta``, and ``x`` where ``beta·x`` is above the threshold."""

    def value(x: tvm.ir.Expr) -> tvm.ir.Expr:
        steep = x * _number(beta)
        soft = log1p_value(exp_value(steep)) / _number(beta)
        return tirx.Select(steep > _number(threshold), x, soft)

    return te.compute(data.shape, lambda *at: value(data[at]), name="softplus")
