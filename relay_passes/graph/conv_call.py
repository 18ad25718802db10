"""What a convolution, pooling or linear call says, in the terms of our operators."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx

from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.dense import MatmulProblem

from .rewrite import CallRewriter, constant_array, op_name

MAX_ABSORBED_CHANNELS = 4
"""A copy that gathers more channels than an image has, value by value, takes longer than a transpose in registers."""


def conv2d_of(call: relax.Call) -> tuple[Conv2dParams, np.ndarray] | None:
    """Parameters and weight (o, c / groups, kh, kw) of a convolution, plain or transposed.

    ``None`` unless it is float32 in NHWC, of known plane size and constant weights.
    """
    weight = constant_array(call.args[1])
    if weight is None or plane_of(call.args[0]) is None or call.attrs.data_layout != "NHWC":
        return None
    return (_transposed if op_name(call) == "nn.conv2d_transpose" else _plain)(call.attrs, weight)


def _plain(attrs: Any, weight: np.ndarray) -> tuple[Conv2dParams, np.ndarray] | None:
    if attrs.kernel_layout != "OHWI":
        return None
    params = Conv2dParams(
        kernel=(weight.shape[1], weight.shape[2]),
        out_channels=weight.shape[0],
        stride=_pair(attrs.strides),
        padding=_four(attrs.padding),
        dilation=_pair(attrs.dilation),
        groups=int(attrs.groups),
    )
    return params, np.ascontiguousarray(weight.transpose(0, 3, 1, 2))


def _transposed(attrs: Any, weight: np.ndarray) -> tuple[Conv2dParams, np.ndarray] | None:
    """A convolution over the input with zeros between its pixels, with the kernel turned by 180 degrees."""
    if attrs.kernel_layout != "IOHW":
        return None
    groups, per_group = int(attrs.groups), weight.shape[1]
    turned = weight[:, :, ::-1, ::-1].reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    turned = np.ascontiguousarray(turned.reshape(groups * per_group, -1, *weight.shape[2:]))
    dilation, before, extra = _pair(attrs.dilation), _four(attrs.padding), _pair(attrs.output_padding)
    reach = [dilation[axis] * (weight.shape[2 + axis] - 1) for axis in (0, 1)]
    params = Conv2dParams(
        kernel=(weight.shape[2], weight.shape[3]),
        out_channels=turned.shape[0],
        padding=(
            reach[0] - before[0],
            reach[1] - before[1],
            reach[0] - before[2] + extra[0],
            reach[1] - before[3] + extra[1],
        ),
        dilation=dilation,
        input_dilation=_pair(attrs.strides),
        groups=groups,
    )
    return params, turned


def pooling_of(call: relax.Call) -> Conv2dParams | None:
    """Window of a float32 pooling in NHWC of known plane size, else ``None``."""
    plane, a = plane_of(call.args[0]), call.attrs
    if plane is None or a.layout != "NHWC":
        return None
    return Conv2dParams(
        kernel=_pair(a.pool_size),
        out_channels=plane[2],
        stride=_pair(a.strides),
        padding=_four(a.padding),
        dilation=_pair(a.dilation),
    )


def plane_of(expr: relax.Expr) -> tuple[int, int, int] | None:
    """Height, width and channels of a float32 value in NHWC where they are known."""
    shape = list(expr.ty.shape)
    known = len(shape) == 4 and all(isinstance(extent, tirx.IntImm) for extent in shape[1:])
    if not known or expr.ty.dtype != "float32":
        return None
    return int(shape[1]), int(shape[2]), int(shape[3])


def conv_problem(call: relax.Call, params: Conv2dParams) -> ConvProblem:
    """What is asked of a convolution."""
    height, width, channels = plane_of(call.args[0]) or (0, 0, 0)
    return ConvProblem(
        batch=extent(call.ty.shape[0]), height=height, width=width, channels=channels, conv=params
    )


def linear_of(call: relax.Call) -> tuple[Conv2dParams, np.ndarray] | None:
    """A linear layer as a 1×1 convolution: its parameters and weight (o, c, 1, 1).

    ``None`` unless the weight is a float32 matrix, constant, and the input has rows.
    """
    weight = constant_array(call.args[1])
    if weight is None or weight.ndim != 2 or weight.dtype != np.float32 or len(call.args[0].ty.shape) < 2:
        return None
    params = Conv2dParams(kernel=(1, 1), out_channels=weight.shape[1])
    return params, np.ascontiguousarray(weight.T)[:, :, None, None]


def linear_problem(call: relax.Call, columns: int) -> MatmulProblem:
    """What is asked of a linear layer with so many outputs."""
    *lead, rows, k = (extent(n) for n in call.args[0].ty.shape)
    return MatmulProblem(batch=math.prod(lead), rows=rows, inner=k, columns=columns)


def absorb_transpose(
    rewriter: CallRewriter, data: relax.Expr, params: Conv2dParams
) -> tuple[relax.Expr, Conv2dParams]:
    """Read through the transpose of an image in front of a convolution, which copies its input anyway."""
    source = rewriter.definition(data)
    few = int(data.ty.shape[3]) <= MAX_ABSORBED_CHANNELS
    if (
        few
        and op_name(source) == "permute_dims"
        and [int(axis) for axis in source.attrs.axes] == [0, 2, 3, 1]
    ):
        return source.args[0], dataclasses.replace(params, data_layout="NCHW")
    return data, params


def layer_report(method: str, call: relax.Call, weight: np.ndarray, reason: str = "") -> dict[str, Any]:
    """What the report says of a layer with ``weight`` (o, ...), before anything is merged or packed."""
    shapes = [[extent(n) for n in expr.ty.shape] for expr in (call.args[0], call)]
    shapes = [[shape[0], shape[3], shape[1], shape[2]] if len(shape) == 4 else shape for shape in shapes]
    executed = math.prod(shapes[1]) * weight[0].size
    # A transposed convolution multiplies each input pixel by each of its weights; the zeros between are our doing.
    transposed = op_name(call) == "nn.conv2d_transpose"
    macs = math.prod(shapes[0]) // shapes[0][1] * weight.size if transposed else executed
    return {
        "method": method,
        "reason": reason,
        "input_shape": shapes[0],
        "output_shape": shapes[1],
        "dense_macs": macs,
        "operations": executed,
        "weight_bytes": weight.nbytes,
    }


def extent(value: tvm.ir.Expr) -> int:
    """A known extent, or 1 for a symbolic one: knobs and counts are then per item."""
    return int(value) if isinstance(value, tirx.IntImm) else 1


def _pair(values: Sequence[Any]) -> tuple[int, int]:
    first, *rest = (int(value) for value in values)
    return (first, rest[0] if rest else first)


def _four(values: Sequence[Any]) -> tuple[int, int, int, int]:
    padding = [int(value) for value in values]
    top, left, bottom, right = padding * (4 // len(padding))
    return top, left, bottom, right
