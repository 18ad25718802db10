"""Rules for quantized values: they stay float32, ``clip(round(x / scale) + zero, low, high)``, and are scaled back.

What is known when the model is imported (scales, zero points, whole weights) is computed here, by NumPy, in the same
order of float32 operations.
"""

import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import tvm
from torch import fx
from tvm import relax

from .torch_rules import Emit, arguments, rule, shape

Value = Any
"""A Relax expression, or what is known already: ndarray or float32."""

_NUMPY: dict[str, Callable[..., Value]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
    "round": np.rint, "clip": np.clip,
}  # fmt: skip


def apply(name: str, *operands: Any, emit: Emit) -> Value:
    """Apply an operator: by NumPy if all it takes is known, else in the graph."""
    if not any(isinstance(operand, relax.Expr) for operand in operands):
        return _NUMPY[name](*operands)
    return emit(getattr(relax.op, name)(*(o if isinstance(o, int) else as_relax(o) for o in operands)))


def reciprocal(scale: Value, emit: Emit) -> Value:
    """Return what PyTorch multiplies by instead of dividing: ONNX divides, which differs in the last bit."""
    return apply("divide", np.float32(1), scale, emit=emit)


def rounded(scaled: Value, zero: Value, low: int, high: int, emit: Emit) -> Value:
    """Return ``clip(round(scaled) + zero, low, high)``, halves to even."""
    level = apply("round", scaled, emit=emit)
    return apply("clip", _shifted("add", level, zero, emit), low, high, emit=emit)


def dequantized(level: Value, scale: Value, zero: Value, emit: Emit) -> Value:
    """Return ``(level - zero) * scale``; ``level`` may be of an integer dtype."""
    if isinstance(level, np.ndarray):
        level = level.astype(np.float32)
    elif level.ty.dtype != "float32":
        level = emit(relax.op.astype(level, "float32"))
    return apply("multiply", _shifted("subtract", level, zero, emit), scale, emit=emit)


def numbers(value: Any, rank: int, axis: int | None, emit: Emit) -> Value:
    """Return a scale or zero point, ready to be combined with a tensor of ``rank``: one number or one per channel.

    Parameters
    ----------
    value : Expr, float or None
        ``None`` is 0.
    axis : int or None
        Of the channels; ``None`` where there is one number for all.
    """
    value = known(0.0 if value is None else value)
    per_channel = [1] * rank
    if axis is not None:
        per_channel[axis] = -1
    if isinstance(value, np.ndarray):
        value = value.astype(np.float32)
        return value.flat[0] if (value == value.flat[0]).all() else value.reshape(per_channel)
    if value.ty.dtype != "float32":
        value = emit(relax.op.astype(value, "float32"))
    return emit(relax.op.reshape(value, per_channel)) if axis is not None or shape(value) else value


def known(value: Any) -> Any:
    """Return a constant's (or a Python number's) array; a Relax value that is none, itself."""
    if isinstance(value, tvm.ir.GenericConst):
        return value.value.numpy()
    return value if isinstance(value, relax.Expr) else np.asarray(value)


def as_relax(value: Value) -> relax.Expr:
    """Return a constant for what is known."""
    return value if isinstance(value, relax.Expr) else relax.const(np.asarray(value))


def _shifted(name: str, level: Value, zero: Value, emit: Emit) -> Value:
    nothing = not isinstance(zero, relax.Expr) and not np.any(zero)
    return level if nothing else apply(name, level, zero, emit=emit)


def _fake_quantized(op: SimpleNamespace, emit: Emit) -> relax.Expr:
    x, rank = known(op.input), len(shape(op.input))
    axis = op.axis % rank if hasattr(op, "axis") else None
    scale, zero = (numbers(value, rank, axis, emit) for value in (op.scale, op.zero_point))
    scaled = apply("multiply", x, reciprocal(scale, emit), emit=emit)
    level = rounded(scaled, zero, op.quant_min, op.quant_max, emit)
    return as_relax(dequantized(level, scale, zero, emit))


def _refuse_zero_point(node: fx.Node) -> str | None:
    zero = arguments(node)["zero_point"]
    if isinstance(zero, fx.Node) and zero.meta["val"].is_floating_point():
        return "zero points must be integers"  # PyTorch adds others before it rounds
    return None


def _refuse_mask(node: fx.Node) -> str | None:
    wants = any(user.target is operator.getitem and user.args[1] == 1 and user.users for user in node.users)
    if wants:
        return "only its values are supported, not where it did not clip"
    enabled = arguments(node).get("fake_quant_enabled")
    switched_on = enabled is None or enabled.op == "placeholder" or _is_one(enabled)
    return _refuse_zero_point(node) if switched_on else "fake_quant_enabled must be a constant"


def _is_one(node: fx.Node) -> bool:
    """Whether a node is what PyTorch itself writes for ``fake_quant_enabled``."""
    return node.target in (torch.ops.aten.full.default, torch.ops.aten.ones.default) and (
        node.target is torch.ops.aten.ones.default or arguments(node)["fill_value"] == 1
    )


rule(
    "fake_quantize_per_tensor_affine.default",
    "fake_quantize_per_tensor_affine.tensor_qparams",
    "fake_quantize_per_channel_affine.default",
    refuse=_refuse_zero_point,
    keep=True,
    inline=True,
)(_fake_quantized)


@rule(
    "fake_quantize_per_tensor_affine_cachemask.default",
    "fake_quantize_per_channel_affine_cachemask.default",
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default",
    refuse=_refuse_mask,
    inline=True,
)
def fake_quantize(op: SimpleNamespace, emit: Emit) -> tuple[relax.Expr]:
    """Import what fake quantization is decomposed to; only the first of its two results exists."""
    enabled = known(getattr(op, "fake_quant_enabled", 1))
    switched_off = isinstance(enabled, np.ndarray) and not enabled.any()
    return (op.input if switched_off else _fake_quantized(op, emit),)


def _refuse_integers(node: fx.Node) -> str | None:
    """Refuse what is no ``quantized_decomposed`` operator, and integers that are used as such."""
    if node.target.namespace != "quantized_decomposed":
        return ""  # aten's operator of this name makes a tensor of a dtype that nothing here has
    others = [user.name for user in node.users if not _dequantizes(user)]
    if others:
        return f"its integers are used by '{others[0]}'; only a dequantize operator can take them"
    return None


def _dequantizes(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target.__name__.startswith("dequantize_per_")


def _parameters(op: SimpleNamespace, emit: Emit) -> tuple[Value, Value]:
    """(scale, zero point), one or one per channel."""
    rank = len(shape(op.input))
    if hasattr(op, "axis"):
        axis = op.axis % rank
        return numbers(op.scales, rank, axis, emit), numbers(op.zero_points, rank, axis, emit)
    return numbers(op.scale, rank, None, emit), numbers(op.zero_point, rank, None, emit)


@rule(
    "quantize_per_tensor.default",
    "quantize_per_tensor.tensor",
    "quantize_per_tensor.tensor2",
    "quantize_per_channel.default",
    refuse=_refuse_integers,
    inline=True,
)
def quantize(op: SimpleNamespace, emit: Emit) -> relax.Expr:
    """Import a quantization whose result is only dequantized; it stays float32."""
    scale, zero = _parameters(op, emit)
    in_double = isinstance(getattr(op, "scale", None), float)
    inverse = np.float32(1 / op.scale) if in_double else reciprocal(scale, emit)
    low, high = int(known(op.quant_min)), int(known(op.quant_max))
    scaled = apply("multiply", known(op.input), inverse, emit=emit)
    return as_relax(rounded(scaled, zero, low, high, emit))


@rule(
    "dequantize_per_tensor.default",
    "dequantize_per_tensor.tensor",
    "dequantize_per_tensor.tensor2",
    "dequantize_per_channel.default",
    inline=True,
)
def dequantize(op: SimpleNamespace, emit: Emit) -> relax.Expr:
    """Import a dequantization, of `quantize` or of integers."""
    scale, zero = _parameters(op, emit)
    return as_relax(dequantized(known(op.input), scale, zero, emit))
