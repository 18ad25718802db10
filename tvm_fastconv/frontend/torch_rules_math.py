"""Rules for activations and arithmetic."""

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
from tvm import relax

from .torch_rules import Emit, as_dtype, constant_like, dtype_of, promoted, rule, shape


def _hard_gate(x: relax.Expr) -> relax.Expr:
    """``clip(x + 3, 0, 6) / 6``."""
    raised = relax.op.clip(relax.op.add(x, constant_like(3, x)), 0, 6)
    return relax.op.multiply(raised, constant_like(1 / 6, x))


@rule("hardsigmoid.default", keep=True)
def hardsigmoid(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import hard sigmoid."""
    return emit(_hard_gate(op.input))


@rule("hardswish.default", keep=True)
def hardswish(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import hard swish."""
    return emit(relax.op.multiply(op.input, _hard_gate(op.input)))


@rule("silu.default", keep=True)
def silu(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import SiLU."""
    return emit(relax.op.nn.silu(op.input))


@rule("softplus.default", keep=True)
def softplus(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import softplus."""
    return emit(relax.op.nn.softplus(op.input, float(op.beta), float(op.threshold)))


@rule("elu.default")
def elu(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``scale * (relu(x) + alpha * expm1(min(input_scale * x, 0)))``, which is ELU, and SELU with its scales."""
    x = op.input
    inner = x if op.input_scale == 1 else relax.op.multiply(x, constant_like(op.input_scale, x))
    below = emit(relax.op.minimum(inner, constant_like(0, x)))
    fall = relax.op.multiply(_expm1(below, emit), constant_like(op.alpha * op.scale, x))
    rise = relax.op.nn.relu(x)
    if op.scale != 1:
        rise = relax.op.multiply(rise, constant_like(op.scale, x))
    return emit(relax.op.add(rise, fall))


@rule("expm1.default", keep=True)
def expm1(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``e^x - 1``, a float of an integer too."""
    return _expm1(_floating(op.input, emit), emit)


def _expm1(x: relax.Expr, emit: Emit) -> relax.Var:
    """``tanh(x / 2) * (e^x + 1)``: nothing cancels where x is small."""
    share = relax.op.tanh(relax.op.multiply(x, constant_like(0.5, x)))
    return emit(relax.op.multiply(share, relax.op.add(relax.op.exp(x), constant_like(1, x))))


@rule("log1p.default", keep=True)
def log1p(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``log(1 + x)``, as ``2 * atanh(x / (2 + x))`` where x is small and 1 + x would lose its bits."""
    x = _floating(op.input, emit)
    ratio = relax.op.divide(x, relax.op.add(x, constant_like(2, x)))
    small = relax.op.multiply(relax.op.atanh(ratio), constant_like(2, x))
    large = relax.op.log(relax.op.add(x, constant_like(1, x)))
    return emit(relax.op.where(relax.op.less(relax.op.abs(x), constant_like(0.5, x)), small, large))


def _floating(x: relax.Expr, emit: Emit) -> relax.Expr:
    return x if dtype_of(x).is_floating_point else as_dtype(x, torch.get_default_dtype(), emit)


@rule("prelu.default", keep=True)
def prelu(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``relu(x) + weight * min(x, 0)`` with one weight, or one per channel."""
    x, rank = op.input, len(shape(op.input))
    count = shape(op.weight)[0] if shape(op.weight) else 1
    slope = relax.op.reshape(op.weight, [1, count] + [1] * (rank - 2) if rank > 1 else [count])
    below = relax.op.minimum(x, constant_like(0, x))
    return emit(relax.op.add(relax.op.nn.relu(x), relax.op.multiply(slope, below)))


@rule("pow.Tensor_Scalar")
def power(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a power; squares, cubes, roots and powers of integers without calling ``pow``."""
    x, exponent = promoted(op.input, op.exponent, emit)
    whole = not dtype_of(x).is_floating_point  # then PyTorch takes no negative exponent
    if whole or op.exponent in (2, 3):
        return _product(x, int(op.exponent), emit)
    if op.exponent == 0.5:
        return emit(relax.op.sqrt(x))
    return emit(relax.op.power(x, exponent))


@rule("pow.Tensor_Tensor", "pow.Scalar")
def power_of_tensor(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a power with a computed exponent; of integers in float64, exact below 2^53."""
    x, exponent = promoted(op.input, op.exponent, emit)
    if (dtype := dtype_of(x)).is_floating_point:
        return emit(relax.op.power(x, exponent))
    x, exponent = (as_dtype(operand, torch.float64, emit) for operand in (x, exponent))
    return as_dtype(emit(relax.op.power(x, exponent)), dtype, emit)


def _product(x: relax.Expr, count: int, emit: Emit) -> relax.Expr:
    """``count`` times ``x``, multiplied by squaring."""
    if count < 2:
        return x if count else emit(relax.op.ones_like(x))
    half = _product(x, count // 2, emit)
    square = emit(relax.op.multiply(half, half))
    return emit(relax.op.multiply(square, x)) if count % 2 else square


@rule("clamp.default", "clamp.Tensor")
def clamp(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a clamp between numbers or tensors, either of which may be missing; no integer is infinite."""
    x = op.input
    if dtype_of(x).is_floating_point and not any(isinstance(bound, relax.Expr) for bound in (op.min, op.max)):
        return clip(x, op.min, op.max, emit)
    for limit, bound in ((relax.op.maximum, op.min), (relax.op.minimum, op.max)):
        x = x if bound is None else emit(limit(*promoted(x, bound, emit)))
    return x


def clip(x: relax.Expr, low: float | None, high: float | None, emit: Emit) -> relax.Var:
    """Clip floats to numbers, either of which may be missing.

    Where ``low`` is above ``high`` all becomes ``high``, in PyTorch and in ONNX; Relax's ``clip`` would take ``low``.
    """
    high = math.inf if high is None else high
    return emit(relax.op.clip(x, -math.inf if low is None else min(low, high), high))


@rule("reciprocal.default")
def reciprocal(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``1 / x``, a float for an integer too."""
    return emit(relax.op.divide(*promoted(1, op.input, emit, floating=True)))


@rule("fmod.Scalar", "fmod.Tensor")
def fmod(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import the rest of a division that rounds to zero."""
    return emit(relax.op.mod(*promoted(op.input, op.other, emit)))


@rule("div.Tensor_mode")
def divide(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a division that may round."""
    operands = promoted(op.input, op.other, emit, floating=op.rounding_mode is None)
    if op.rounding_mode == "floor":
        return emit(relax.op.floor_divide(*operands))
    quotient = emit(relax.op.divide(*operands))
    return emit(relax.op.trunc(quotient)) if op.rounding_mode == "trunc" else quotient


def _compare(op: SimpleNamespace, emit: Emit, how: Callable[..., relax.Expr]) -> relax.Var:
    """Import a comparison; of masks as one of numbers, for which TVM has code."""
    operands = promoted(op.input, op.other, emit)
    if dtype_of(operands[0]) == torch.bool:
        operands = [as_dtype(operand, torch.int8, emit) for operand in operands]
    return emit(how(*operands))


for _name, _how in {
    "eq": relax.op.equal, "ne": relax.op.not_equal, "lt": relax.op.less, "le": relax.op.less_equal,
    "gt": relax.op.greater, "ge": relax.op.greater_equal,
}.items():  # fmt: skip
    rule(f"{_name}.Tensor", f"{_name}.Scalar")(partial(_compare, how=_how))


@rule("cumsum.default")
def cumsum(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a running sum; floats are added in float64, as PyTorch does."""
    given = dtype_of(op.input)
    dtype = op.dtype or (given if given.is_floating_point else torch.int64)
    x = as_dtype(op.input, torch.float64 if dtype.is_floating_point else dtype, emit)
    total = emit(relax.op.cumsum(x, op.dim, exclusive=getattr(op, "exclusive", False))) if shape(x) else x
    return as_dtype(total, dtype, emit)


@rule("var.correction")
def variance(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a variance of floats, computed in float64 as PyTorch does."""
    return as_dtype(_variance(op, emit), dtype_of(op.input), emit)


@rule("std.correction", keep=True)
def deviation(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a standard deviation: its square may be beyond float32."""
    return as_dtype(emit(relax.op.sqrt(_variance(op, emit))), dtype_of(op.input), emit)


def _variance(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """The variance in float64."""
    axes = list(op.dim or range(len(shape(op.input))))
    sizes = [shape(op.input)[axis] for axis in axes]
    if not all(isinstance(size, int) for size in sizes):
        raise NotImplementedError("the variance over an axis of unknown size is not supported")
    wide = as_dtype(op.input, torch.float64, emit)
    centred = emit(relax.op.subtract(wide, relax.op.mean(wide, axes, keepdims=True)))
    total = relax.op.sum(relax.op.multiply(centred, centred), axes, keepdims=op.keepdim)
    freedom = math.prod(sizes) - (1 if op.correction is None else op.correction)
    share = 1 / freedom if freedom > 0 else math.nan
    return emit(relax.op.multiply(total, relax.const(share, "float64")))


@rule("copysign.Tensor", "copysign.Scalar")
def copysign(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``|x|`` with the sign of another value; -0.0 has one too."""
    sign = op.other
    (x, _) = promoted(op.input, sign, emit, floating=True)
    if not isinstance(sign, relax.Expr):
        magnitude = emit(relax.op.abs(x))
        return emit(relax.op.negative(magnitude)) if math.copysign(1, sign) < 0 else magnitude
    zero = relax.op.equal(sign, constant_like(0, sign))
    signed = emit(relax.op.where(zero, relax.op.divide(constant_like(1, sign), sign), sign))
    magnitude = emit(relax.op.abs(x))
    negative = relax.op.less(signed, constant_like(0, sign))
    return emit(relax.op.where(negative, relax.op.negative(magnitude), magnitude))
