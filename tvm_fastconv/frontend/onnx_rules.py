"""Rules for ONNX operators: the same Relax as ``torch_rules*`` makes, where TVM's converters make something else.

Each takes (inputs, attributes, emit) and returns the node's value, or raises ``NotImplementedError`` with a reason.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import tvm
from tvm import relax

from .onnx_quantize import integer_range
from .torch_rules import Emit, as_dtype, constant_like, dtype_of, shape
from .torch_rules_image import pad, resize
from .torch_rules_math import clip, cumsum, elu, hardswish, power, softplus
from .torch_rules_nn import convolution, instance_norm
from .torch_rules_pool import avg_pool2d, max_pool2d
from .torch_rules_quantize import apply, as_relax, dequantized, known, numbers, rounded

Attributes = dict[str, Any]
OnnxRule = Callable[[Sequence[relax.Expr | None], Attributes, Emit], relax.Expr]


def _padding(size: list, kernel: list[int], attributes: Attributes) -> list[int]:
    """Return the padding (all starts, then all ends) of a convolution or pool."""
    how = attributes.get("auto_pad", b"NOTSET").decode()
    rank = len(kernel)
    if not how.startswith("SAME"):
        return list(attributes.get("pads", [0] * (2 * rank))) if how == "NOTSET" else [0] * (2 * rank)
    if not all(isinstance(s, int) for s in size):
        raise NotImplementedError(f"auto_pad={how} needs a fixed height and width")
    strides, dilations = (attributes.get(name, [1] * rank) for name in ("strides", "dilations"))
    total = [
        max((-(-s // step) - 1) * step + d * (k - 1) + 1 - s, 0)
        for s, k, step, d in zip(size, kernel, strides, dilations, strict=True)
    ]
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    return less + more if how == "SAME_UPPER" else more + less


def _convolve(inputs: Sequence, attributes: Attributes, emit: Emit, transposed: bool) -> relax.Var:
    data, weight, bias = (*inputs, None)[:3]
    kernel = shape(weight)[2:]
    rank = len(kernel)
    if rank > 2:
        raise NotImplementedError(f"{rank}-D convolution: only 1-D and 2-D convolutions are supported")
    if transposed and ("output_shape" in attributes or attributes.get("auto_pad", b"NOTSET") != b"NOTSET"):
        raise NotImplementedError("output_shape and auto_pad are not supported: give pads and output_padding")
    if (given := list(attributes.get("kernel_shape", kernel))) != kernel:
        raise ValueError(f"its kernel_shape is {given}, its weights are for {kernel}")
    padding = _padding(shape(data)[2:], kernel, attributes)
    return convolution(
        SimpleNamespace(
            input=data, weight=weight, bias=bias, transposed=transposed, groups=attributes.get("group", 1),
            stride=attributes.get("strides", [1] * rank), dilation=attributes.get("dilations", [1] * rank),
            padding=[padding[0], 0, padding[1]] if rank == 1 else padding,
            output_padding=attributes.get("output_padding", [0] * rank),
        ),
        emit,
    )  # fmt: skip


def _pool(inputs: Sequence, attributes: Attributes, emit: Emit, average: bool) -> Any:
    """Import a 2-D pool, or a 1-D pool as one of height 1."""
    data, kernel = inputs[0], list(attributes["kernel_shape"])
    rank = len(kernel)
    dilations = list(attributes.get("dilations", [1] * rank))
    if average and rank == 3:
        return NotImplemented
    if rank > 2 or (average and any(d != 1 for d in dilations)):
        raise NotImplementedError("only 1-D and 2-D pools are supported, and no dilation where they average")
    padding = _padding(shape(data)[2:], kernel, attributes)
    if any(amount >= size for amount, size in zip(padding, kernel * 2, strict=True)):
        raise ValueError(f"its pads {padding} are not smaller than its kernel {kernel}")
    strides = list(attributes.get("strides", [1] * rank))
    flat = rank == 1
    if flat:
        data = emit(relax.op.expand_dims(data, 2))
        padding = [0, padding[0], 0, padding[1]]
    op = SimpleNamespace(
        input=data, kernel_size=[1] * flat + kernel, stride=[1] * flat + strides, padding=padding,
        dilation=[1] * flat + dilations, ceil_mode=bool(attributes.get("ceil_mode", 0)),
        count_include_pad=bool(attributes.get("count_include_pad", 0)), divisor_override=None,
    )  # fmt: skip
    result = avg_pool2d(op, emit) if average else max_pool2d(op, emit)
    return emit(relax.op.squeeze(result, [2])) if flat else result


def _constant(value: relax.Expr | None) -> Any:
    """Return an input's numbers (a list, or one number); ``None`` where the input is absent."""
    if isinstance(value, relax.ShapeExpr):
        value = relax.const([int(size) for size in value.values], "int64")
    if not isinstance(value, tvm.ir.GenericConst | None):
        raise NotImplementedError("its amounts must be constants")
    return None if value is None else value.value.numpy().tolist()


def _pad(inputs: Sequence, attributes: Attributes, emit: Emit) -> relax.Var:
    data, amounts, value, axes = (*inputs, None, None, None)[:4]
    rank = len(shape(data))
    pads = _constant(amounts) or attributes["pads"]
    places = [axis % rank for axis in _constant(axes) or range(rank)]
    widths = dict(zip(places, zip(pads[: len(places)], pads[len(places) :], strict=True), strict=True))
    from_last_axis = [amount for axis in reversed(range(rank)) for amount in widths.get(axis, (0, 0))]
    mode = {"edge": "replicate", "wrap": "circular"}.get(_text(attributes, "mode"), _text(attributes, "mode"))
    fill = _constant(value) if value is not None else attributes.get("value", 0.0)
    if mode == "reflect":
        for axis, both in widths.items():
            if max(both) > 0 and max(both) >= shape(data)[axis] + sum(min(amount, 0) for amount in both):
                raise NotImplementedError(
                    f"it reflects {max(both)} of the {shape(data)[axis]} values of axis {axis}"
                )
    return pad(SimpleNamespace(input=data, pad=from_last_axis, mode=mode or "constant", value=fill), emit)


def _text(attributes: Attributes, name: str) -> str:
    return attributes.get(name, b"").decode()


def _resize(inputs: Sequence, attributes: Attributes, emit: Emit) -> Any:
    """Import the resizes that PyTorch has too; TVM's converter gets the others where the scale is the sizes' ratio."""
    data, _, scales, sizes = (*inputs, None, None, None)[:4]
    factors = None if scales is None else _constant(scales)
    target = None if sizes is None else _constant(sizes)
    size = shape(data)
    if (
        len(size) != 4
        or (factors or [1, 1])[:2] != [1, 1]
        or (target or size)[:2] != size[:2]
        or "axes" in attributes
    ):
        raise NotImplementedError("only height and width of 4-D inputs can be resized")
    mode, how = _text(attributes, "mode") or "nearest", _text(attributes, "coordinate_transformation_mode")
    antialias, sharpness = bool(attributes.get("antialias", 0)), attributes.get("cubic_coeff_a", -0.75)
    nearest = mode == "nearest" and (how, _text(attributes, "nearest_mode")) == ("asymmetric", "floor")
    smooth = mode in ("linear", "cubic") and how in ("", "half_pixel", "pytorch_half_pixel", "align_corners")
    if nearest or (
        smooth and (mode == "linear" or (sharpness == -0.75 and not attributes.get("exclude_outside")))
    ):
        op = SimpleNamespace(
            input=data, scale_factors=factors and factors[2:], output_size=target and target[2:],
            align_corners=how == "align_corners" if smooth else None,
        )  # fmt: skip
        return resize(
            op, emit, {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[mode], antialias
        )
    if how == "align_corners" and target and 1 in target[2:]:
        raise NotImplementedError(f"mode={mode} with coordinate_transformation_mode={how} to a size of 1")
    if antialias or (factors and any(f * s % 1 for f, s in zip(factors[2:], size[2:], strict=True))):
        raise NotImplementedError(f"mode={mode} with coordinate_transformation_mode={how} at this scale")
    return NotImplemented


def _clip(inputs: Sequence, attributes: Attributes, emit: Emit) -> Any:
    data, lowest, highest = (*inputs, None, None)[:3]
    if not all(isinstance(bound, tvm.ir.GenericConst | None) for bound in (lowest, highest)):
        return NotImplemented
    low = attributes.get("min") if lowest is None else lowest.value.numpy().item()
    high = attributes.get("max") if highest is None else highest.value.numpy().item()
    return clip(data, low, high, emit)


def _normalise(inputs: Sequence, attributes: Attributes, emit: Emit, by_instance: bool) -> relax.Var:
    """Import batch norm (with its statistics) or instance norm (which measures them)."""
    if attributes.get("training_mode"):
        raise NotImplementedError("training_mode is on: export the model in eval mode")
    data, weight, bias, mean, variance = (*inputs, None, None)[:5]
    op = SimpleNamespace(
        input=data, weight=weight, bias=bias, running_mean=mean, running_var=variance,
        use_input_stats=by_instance, eps=attributes.get("epsilon", 1e-5),
    )  # fmt: skip
    return instance_norm(op, emit)


def _elu(inputs: Sequence, attributes: Attributes, emit: Emit, alpha: float, gamma: float) -> relax.Var:
    alpha, gamma = attributes.get("alpha", alpha), attributes.get("gamma", gamma)
    return elu(SimpleNamespace(input=inputs[0], alpha=alpha, scale=gamma, input_scale=1), emit)


def _softplus(x: relax.Expr, emit: Emit) -> relax.Var:
    return softplus(SimpleNamespace(input=x, beta=1, threshold=20), emit)


def _prelu(inputs: Sequence, attributes: Attributes, emit: Emit) -> relax.Var:
    data, slope = inputs
    below = relax.op.minimum(data, constant_like(0, data))
    return emit(relax.op.add(relax.op.nn.relu(data), relax.op.multiply(slope, below)))


def _power(inputs: Sequence, attributes: Attributes, emit: Emit) -> Any:
    base, exponent = inputs
    if not isinstance(exponent, tvm.ir.GenericConst) or exponent.value.numpy().size != 1:
        return NotImplemented
    made = power(SimpleNamespace(input=base, exponent=exponent.value.numpy().item()), emit)
    return as_dtype(made, dtype_of(base), emit)


def _cumsum(inputs: Sequence, attributes: Attributes, emit: Emit) -> relax.Var:
    data, axis = inputs
    (place,) = np.ravel(_constant(axis))
    backwards = bool(attributes.get("reverse"))
    turned = emit(relax.op.flip(data, int(place))) if backwards else data
    op = SimpleNamespace(
        input=turned, dim=int(place), dtype=dtype_of(data), exclusive=bool(attributes.get("exclusive"))
    )
    total = cumsum(op, emit)
    return emit(relax.op.flip(total, int(place))) if backwards else total


def _dropout(inputs: Sequence, attributes: Attributes, emit: Emit) -> relax.Expr:
    if len(inputs) > 2 and inputs[2] is not None and _constant(inputs[2]):
        raise NotImplementedError("training_mode is on: export the model in eval mode")
    return inputs[0]


def _parameters(inputs: Sequence, attributes: Attributes, emit: Emit) -> tuple[Any, Any]:
    """Return (scale, zero point) of a quantization, one or one per channel."""
    data, scale, zero = (*inputs, None)[:3]
    rank, sizes = len(shape(data)), shape(scale)
    if attributes.get("block_size"):
        raise NotImplementedError("a scale for each block is supported for constants only")
    axis = attributes.get("axis", 1) % rank if math.prod(sizes) != 1 else None
    return numbers(scale, rank, axis, emit), numbers(zero, rank, axis, emit)


def _quantize(inputs: Sequence, attributes: Attributes, emit: Emit) -> relax.Expr:
    """Import a quantization; its result stays float32 where only `_dequantize` reads it."""
    data, _, zero_point = (*inputs, None)[:3]
    computed = zero_point is not None and zero_point.ty.dtype != "float32"  # constant ones were made float32
    dtype = str(zero_point.ty.dtype) if computed else attributes["dtype"].decode()
    scale, zero = _parameters(inputs, attributes, emit)
    if data.ty.dtype != "float32":
        data = emit(relax.op.astype(data, "float32"))
    scaled = apply("divide", known(data), scale, emit=emit)
    low, high = integer_range(dtype)
    level = as_relax(rounded(scaled, zero, low, high, emit))
    if attributes["integers"] and dtype.endswith("int4"):
        raise NotImplementedError(
            f"its {dtype} values are used by other operators than DequantizeLinear, which is supported from int8 on"
        )
    return emit(relax.op.astype(level, dtype)) if attributes["integers"] else level


def _dequantize(inputs: Sequence, attributes: Attributes, emit: Emit) -> relax.Expr:
    scale, zero = _parameters(inputs, attributes, emit)
    return as_relax(dequantized(known(inputs[0]), scale, zero, emit))


# A rule that returns NotImplemented leaves the node to TVM's converter.
RULES: dict[str, OnnxRule] = {
    "Conv": partial(_convolve, transposed=False),
    "ConvTranspose": partial(_convolve, transposed=True),
    "MaxPool": partial(_pool, average=False),
    "AveragePool": partial(_pool, average=True),
    "Pad": _pad,
    "Resize": _resize,
    "BatchNormalization": partial(_normalise, by_instance=False),
    "InstanceNormalization": partial(_normalise, by_instance=True),
    "Clip": _clip,
    "PRelu": _prelu,
    "Elu": partial(_elu, alpha=1.0, gamma=1.0),
    "Selu": partial(_elu, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "Softplus": lambda inputs, attributes, emit: _softplus(inputs[0], emit),
    "Mish": lambda inputs, attributes, emit: emit(
        relax.op.multiply(inputs[0], relax.op.tanh(_softplus(inputs[0], emit)))
    ),
    "HardSwish": lambda inputs, attributes, emit: hardswish(SimpleNamespace(input=inputs[0]), emit),
    "Tile": lambda inputs, attributes, emit: emit(relax.op.tile(inputs[0], _constant(inputs[1]))),
    "Pow": _power,
    "CumSum": _cumsum,
    "Dropout": _dropout,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
}
