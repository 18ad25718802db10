"""How each operator is written with its channels last.

A rule takes the faces of the values and a call in NCHW and returns the same call on NHWC operands, `AsIs` where the
result has no channel axis to move any more, or ``None`` where the call is better left as it is. Axis ``i`` of an NCHW
value is axis ``CHANNEL_LAST[rank].index(i)`` of its NHWC face. Five dimensions are (n, g, c, h, w), which the reshapes
of a channel shuffle pass through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from ..graph.rewrite import static_shape


class Faces(Protocol):
    """The two faces of a function's values, as the planner makes them.

    Attributes
    ----------
    builder : BlockBuilder
        Of the function that is being rebuilt.
    """

    builder: relax.BlockBuilder

    def has_last(self, expr: relax.Expr) -> bool:
        """Whether ``expr`` exists in NHWC already."""

    def first(self, expr: relax.Expr) -> relax.Expr:
        """``expr`` in NCHW, as the source graph had it."""

    def last(self, expr: relax.Expr) -> relax.Expr:
        """``expr`` in NHWC."""


class AsIs(NamedTuple):
    """A result that stands in the source's own order though it was computed from NHWC operands."""

    expr: relax.Expr


Rule = Callable[[Faces, relax.Call], relax.Expr | AsIs | None]

CHANNEL_LAST = {4: (0, 2, 3, 1), 5: (0, 3, 4, 1, 2)}

ELEMENTWISE = (
    "abs", "add", "astype", "bitwise_not", "ceil", "clip", "cos", "divide", "equal", "erf", "exp", "floor",
    "floor_divide", "floor_mod", "full_like", "greater", "greater_equal", "isnan", "left_shift", "less",
    "less_equal", "log", "logical_and", "logical_not", "logical_or", "maximum", "minimum", "mod", "multiply",
    "negative", "nn.dropout", "nn.gelu", "nn.gelu_tanh", "nn.leakyrelu", "nn.relu", "nn.silu", "nn.softplus",
    "not_equal", "ones_like", "power", "round", "rsqrt", "sigmoid", "sign", "sin", "sqrt", "square", "subtract",
    "tan", "tanh", "where", "zeros_like",
)  # fmt: skip


def to_channel_last(expr: relax.Expr) -> relax.Expr:
    """``expr`` in NHWC; a constant is transposed here and now."""
    rank = len(expr.ty.shape)
    if isinstance(expr, GenericConst):
        return relax.const(np.ascontiguousarray(expr.value.numpy().transpose(CHANNEL_LAST[rank])))
    return relax.op.permute_dims(expr, CHANNEL_LAST[rank])


def to_channel_first(expr: relax.Expr) -> relax.Expr:
    """The NHWC value ``expr`` in NCHW."""
    order = CHANNEL_LAST[len(expr.ty.shape)]
    return relax.op.permute_dims(expr, [order.index(axis) for axis in range(len(order))])


def _axis(axis: int, rank: int) -> int:
    return CHANNEL_LAST[rank].index(int(axis) % rank)


def _conv2d(faces: Faces, call: relax.Call) -> relax.Call | None:
    if call.attrs.data_layout != "NCHW" or call.attrs.kernel_layout != "OIHW":
        return None
    a = call.attrs
    weight = call.args[1]
    kernel = (
        relax.const(np.ascontiguousarray(weight.value.numpy().transpose(0, 2, 3, 1)))
        if isinstance(weight, GenericConst)
        else faces.builder.emit(relax.op.permute_dims(faces.first(weight), (0, 2, 3, 1)))
    )
    return relax.op.nn.conv2d(
        faces.last(call.args[0]), kernel, a.strides, a.padding, a.dilation, a.groups, "NHWC", "OHWI"
    )


def _conv2d_transpose(faces: Faces, call: relax.Call) -> relax.Call | None:
    a = call.attrs
    if a.data_layout != "NCHW":
        return None
    return relax.op.nn.conv2d_transpose(
        faces.last(call.args[0]), faces.first(call.args[1]), a.strides, a.padding, a.output_padding, a.dilation,
        a.groups, "NHWC", "IOHW",
    )  # fmt: skip


def _pool2d(faces: Faces, call: relax.Call) -> relax.Call | None:
    a = call.attrs
    if a.layout != "NCHW":
        return None
    op = {"relax.nn.max_pool2d": relax.op.nn.max_pool2d, "relax.nn.avg_pool2d": relax.op.nn.avg_pool2d}[
        call.op.name
    ]
    return op(
        faces.last(call.args[0]), a.pool_size, a.strides, a.padding, a.dilation, a.ceil_mode, a.count_include_pad,
        "NHWC",
    )  # fmt: skip


def _adaptive_pool(faces: Faces, call: relax.Call) -> relax.Call | None:
    if call.attrs.layout != "NCHW":
        return None
    return relax.op.nn.adaptive_avg_pool2d(faces.last(call.args[0]), call.attrs.output_size, "NHWC")


def _elementwise(faces: Faces, call: relax.Call) -> relax.Call | None:
    if not any(faces.has_last(arg) for arg in call.args):
        return None
    rank = len(call.ty.shape)
    args = [_operand(faces, arg, rank) for arg in call.args]
    if rank not in CHANNEL_LAST or any(arg is None for arg in args):
        return None
    return relax.Call(call.op, args, call.attrs, call.ty_args)


def _operand(faces: Faces, arg: relax.Expr, rank: int) -> relax.Expr | None:
    """``arg`` as it broadcasts against an NHWC value of ``rank``; ``None`` where that takes a reshape at run time."""
    if not hasattr(arg.ty, "shape") or arg.ty.shape is None:
        return arg
    if isinstance(arg, GenericConst) and 0 < arg.value.numpy().ndim < rank:
        array = arg.value.numpy()
        arg = relax.const(array.reshape((1,) * (rank - array.ndim) + array.shape))
    ndim = len(arg.ty.shape)
    if ndim == rank:
        return faces.last(arg)
    return faces.first(arg) if ndim == 0 else None


def _concat(faces: Faces, call: relax.Call) -> relax.Call | None:
    rank = len(call.ty.shape)
    if rank not in CHANNEL_LAST or not faces.has_last(call.args[0]):
        return None
    return relax.op.concat(faces.last(call.args[0]), _axis(call.attrs.axis, rank))


def _split(faces: Faces, call: relax.Call) -> relax.Call | None:
    rank = len(call.args[0].ty.shape)
    if rank not in CHANNEL_LAST or not faces.has_last(call.args[0]):
        return None
    sections = call.attrs.indices_or_sections
    return relax.op.split(faces.last(call.args[0]), sections, _axis(call.attrs.axis, rank))


def _reduce(faces: Faces, call: relax.Call) -> relax.Expr | AsIs | None:
    """Reductions over axes; what is left of the axes must not need a transpose afterwards."""
    data, a = call.args[0], call.attrs
    rank = len(data.ty.shape)
    if rank not in CHANNEL_LAST or not faces.has_last(data) or a.axis is None:
        return None
    axes = [int(axis) % rank for axis in a.axis]
    attrs = {"axis": [_axis(axis, rank) for axis in axes], "keepdims": bool(a.keepdims)}
    op = getattr(relax.op, call.op.name.removeprefix("relax."))
    if a.keepdims:
        return op(faces.last(data), **attrs)
    left = [axis for axis in CHANNEL_LAST[rank] if axis not in axes]
    return AsIs(op(faces.last(data), **attrs)) if left == sorted(left) else None


def _softmax(faces: Faces, call: relax.Call) -> relax.Call | None:
    rank = len(call.ty.shape)
    if rank not in CHANNEL_LAST or not faces.has_last(call.args[0]):
        return None
    op = relax.op.nn.softmax if call.op.name == "relax.nn.softmax" else relax.op.nn.log_softmax
    return op(faces.last(call.args[0]), _axis(call.attrs.axis, rank))


def _prelu(faces: Faces, call: relax.Call) -> relax.Call | None:
    rank = len(call.ty.shape)
    if rank not in CHANNEL_LAST or not faces.has_last(call.args[0]):
        return None
    return relax.op.nn.prelu(
        faces.last(call.args[0]), faces.first(call.args[1]), _axis(call.attrs.axis, rank)
    )


def _pad(faces: Faces, call: relax.Call) -> relax.Call | None:
    rank = len(call.ty.shape)
    if rank not in CHANNEL_LAST or not faces.has_last(call.args[0]):
        return None
    widths = [int(w) for w in call.attrs.pad_width]
    order = [w for axis in CHANNEL_LAST[rank] for w in widths[2 * axis : 2 * axis + 2]]
    return relax.op.nn.pad(faces.last(call.args[0]), order, call.attrs.pad_mode, float(call.attrs.pad_value))


def _resize(faces: Faces, call: relax.Call) -> relax.Call | None:
    a = call.attrs
    if a.layout != "NCHW" or not faces.has_last(call.args[0]):
        return None
    return relax.op.image.resize2d(
        faces.last(call.args[0]), call.args[1], list(a.roi), "NHWC", a.method, a.coordinate_transformation_mode,
        a.rounding_method, a.cubic_alpha, a.cubic_exclude, a.extrapolation_value, a.out_dtype or None,
    )  # fmt: skip


def _reshape(faces: Faces, call: relax.Call) -> relax.Expr | AsIs | None:
    """Splitting or joining channels (channel shuffle), or dropping a 1×1 plane, moves no data in either order."""
    source, shape = static_shape(call.args[0]), static_shape(call)
    if source is None or shape is None or len(source) not in CHANNEL_LAST or not faces.has_last(call.args[0]):
        return None
    if len(shape) in CHANNEL_LAST and source[0] == shape[0] and source[-2:] == shape[-2:]:
        return relax.op.reshape(faces.last(call.args[0]), [shape[axis] for axis in CHANNEL_LAST[len(shape)]])
    if source[-2:] == (1, 1):
        return AsIs(relax.op.reshape(faces.last(call.args[0]), shape))
    return None


def _permute(faces: Faces, call: relax.Call) -> relax.Expr | AsIs | None:
    rank = len(call.ty.shape)
    if rank not in CHANNEL_LAST or call.attrs.axes is None or not faces.has_last(call.args[0]):
        return None
    axes = [int(axis) for axis in call.attrs.axes]
    if axes == list(CHANNEL_LAST[rank]):
        return AsIs(faces.last(call.args[0]))
    order = CHANNEL_LAST[rank]
    moved = [order.index(axes[axis]) for axis in order]
    return relax.op.permute_dims(faces.last(call.args[0]), moved)


RULES: dict[str, Rule] = {f"relax.{name}": _elementwise for name in ELEMENTWISE} | {
    "relax.nn.conv2d": _conv2d,
    "relax.nn.conv2d_transpose": _conv2d_transpose,
    "relax.nn.max_pool2d": _pool2d,
    "relax.nn.avg_pool2d": _pool2d,
    "relax.nn.adaptive_avg_pool2d": _adaptive_pool,
    "relax.concat": _concat,
    "relax.split": _split,
    "relax.mean": _reduce,
    "relax.sum": _reduce,
    "relax.max": _reduce,
    "relax.min": _reduce,
    "relax.nn.softmax": _softmax,
    "relax.nn.log_softmax": _softmax,
    "relax.nn.prelu": _prelu,
    "relax.nn.pad": _pad,
    "relax.image.resize2d": _resize,
    "relax.reshape": _reshape,
    "relax.permute_dims": _permute,
}
