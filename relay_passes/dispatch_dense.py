"""Dense operators → our own: convolution of every kind, linear layers, pooling.

Runs last of the dispatch passes: whatever no structured operator wanted ends here, and what has no constant weights
stays a standard operator for the generic schedule.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx

from tvm_fastconv.topi.conv2d import Conv2dParams, conv2d, merge_groups, pack_weight
from tvm_fastconv.topi.dense import dense
from tvm_fastconv.topi.depthwise_conv2d import depthwise_conv2d, pack_depthwise_weight
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.pool2d import pool2d
from tvm_fastconv.topi.schedules.tile import TileProblem, default_knobs
from tvm_fastconv.topi.schedules.window import default_window_knobs

from .graph import CallRewriter, constant_array, op_name, rewrite_calls
from .operator_call import operator_call


@tvm.transform.module_pass(opt_level=0, name="DispatchDense")
class DispatchDense:
    """Swap dense operators for ours, with default knobs for the current target.

    Parameters
    ----------
    target : Target
    """

    def __init__(self, target: tvm.target.Target) -> None:
        self.machine = Machine.of(target)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        rules = {
            "nn.conv2d": self._conv2d,
            "nn.conv2d_transpose": self._conv2d_transpose,
            "nn.max_pool2d": self._pool2d,
            "nn.avg_pool2d": self._pool2d,
            "matmul": self._matmul,
        }
        return rewrite_calls(mod, rules)

    def _conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        weight, shape = constant_array(call.args[1]), _plane(call.args[0])
        a = call.attrs
        if weight is None or shape is None or (a.data_layout, a.kernel_layout) != ("NHWC", "OHWI"):
            return None
        params = Conv2dParams(
            kernel=weight.shape[1:3], out_channels=weight.shape[0], stride=_pair(a.strides),
            padding=_four(a.padding), dilation=_pair(a.dilation), groups=int(a.groups),
        )  # fmt: skip
        return self._convolve(rewriter, call, params, np.ascontiguousarray(weight.transpose(0, 3, 1, 2)))

    def _conv2d_transpose(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """A convolution over the input with zeros between its pixels, with the kernel turned by 180 degrees."""
        weight, shape = constant_array(call.args[1]), _plane(call.args[0])
        a = call.attrs
        if weight is None or shape is None or (a.data_layout, a.kernel_layout) != ("NHWC", "IOHW"):
            return None
        groups, per_group = int(a.groups), weight.shape[1]
        turned = weight[:, :, ::-1, ::-1].reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
        turned = np.ascontiguousarray(turned.reshape(groups * per_group, -1, *weight.shape[2:]))
        dilation, before, extra = _pair(a.dilation), _four(a.padding), _pair(a.output_padding)
        reach = [dilation[axis] * (weight.shape[2 + axis] - 1) for axis in (0, 1)]
        padding = (
            reach[0] - before[0], reach[1] - before[1],
            reach[0] - before[2] + extra[0], reach[1] - before[3] + extra[1],
        )  # fmt: skip
        params = Conv2dParams(
            kernel=weight.shape[2:], out_channels=turned.shape[0], padding=padding, dilation=dilation,
            input_dilation=_pair(a.strides), groups=groups,
        )  # fmt: skip
        return self._convolve(rewriter, call, params, turned)

    def _convolve(
        self, rewriter: CallRewriter, call: relax.Call, params: Conv2dParams, weight: np.ndarray
    ) -> relax.Expr:
        data = call.args[0]
        n, h, w, c = data.ty.shape
        if params.groups == int(c) and weight.shape[1] == 1 and params.groups > 1:
            return self._depthwise(rewriter, call, params, weight)
        oh, ow = params.output_size(int(h), int(w))
        report = _report("dense", call, weight)
        weight, groups = merge_groups(weight, params.groups, self.machine.lanes)
        data, layout = _absorb_transpose(rewriter, data)
        params = dataclasses.replace(params, groups=groups, data_layout=layout)
        problem = TileProblem(
            batch=_extent(n), height=oh, width=ow, out_channels=params.out_channels // groups, groups=groups,
            reduction=weight[0].size, weight_bytes=weight.nbytes,
            strip_row_bytes=4 * params.stride[0] * params.window_size(1, ow)[1] * int(c),
        )  # fmt: skip
        knobs = default_knobs(problem, self.machine)
        packed = relax.const(pack_weight(weight, knobs.panel))
        return operator_call(
            rewriter, call, conv2d, [data, packed], op="conv2d", knobs=knobs.to_json(), report=report,
            params=params, tile=knobs,
        )  # fmt: skip

    def _depthwise(
        self, rewriter: CallRewriter, call: relax.Call, params: Conv2dParams, weight: np.ndarray
    ) -> relax.Expr:
        n, h, w, _ = call.args[0].ty.shape
        oh, ow = params.output_size(int(h), int(w))
        knobs = default_window_knobs(_extent(n), oh, ow, params.out_channels, self.machine)
        return operator_call(
            rewriter, call, depthwise_conv2d, [call.args[0], relax.const(pack_depthwise_weight(weight))],
            op="depthwise_conv2d", knobs=knobs.to_json(), params=params, tile=knobs,
            report=_report("depthwise", call, weight),
        )  # fmt: skip

    def _pool2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        plane, a = _plane(call.args[0]), call.attrs
        if plane is None or a.layout != "NHWC":
            return None
        params = Conv2dParams(
            kernel=_pair(a.pool_size), stride=_pair(a.strides), padding=_four(a.padding), dilation=_pair(a.dilation),
            out_channels=int(call.args[0].ty.shape[3]),
        )  # fmt: skip
        out_size = (int(call.ty.shape[1]), int(call.ty.shape[2]))
        knobs = default_window_knobs(_extent(call.ty.shape[0]), *out_size, params.out_channels, self.machine)
        kind = "max" if op_name(call) == "nn.max_pool2d" else "avg"
        return operator_call(
            rewriter, call, pool2d, [call.args[0]], op=f"{kind}_pool2d", knobs=knobs.to_json(), params=params,
            out_size=out_size, kind=kind, count_include_pad=bool(a.count_include_pad), tile=knobs,
        )  # fmt: skip

    def _matmul(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        weight, data = constant_array(call.args[1]), call.args[0]
        if weight is None or weight.ndim != 2 or weight.dtype != "float32" or len(data.ty.shape) < 2:
            return None
        *lead, rows, k = data.ty.shape
        batch = math.prod(_extent(n) for n in lead)
        problem = TileProblem(
            batch=batch, height=1, width=_extent(rows), out_channels=weight.shape[1], groups=1, reduction=int(k),
            strip_row_bytes=4 * int(k) * _extent(rows), weight_bytes=weight.nbytes,
        )  # fmt: skip
        knobs = default_knobs(problem, self.machine)
        packed = relax.const(pack_weight(weight.T.reshape(*weight.T.shape, 1, 1), knobs.panel))
        return operator_call(
            rewriter, call, dense, [data, packed], op="dense", knobs=knobs.to_json(), tile=knobs,
            out_features=weight.shape[1], report=_report("dense", call, weight.T),
        )  # fmt: skip


def _report(method: str, call: relax.Call, weight: np.ndarray) -> dict[str, Any]:
    """What the report says of a layer with ``weight`` (o, ...), before anything is merged or packed."""
    shapes = [[_extent(n) for n in expr.ty.shape] for expr in (call.args[0], call)]
    shapes = [[shape[0], shape[3], shape[1], shape[2]] if len(shape) == 4 else shape for shape in shapes]
    macs = math.prod(shapes[1]) * weight[0].size
    return {
        "method": method,
        "reason": "",
        "input_shape": shapes[0],
        "output_shape": shapes[1],
        "dense_macs": macs,
        "operations": macs,
        "weight_bytes": weight.nbytes,
    }


def _absorb_transpose(rewriter: CallRewriter, data: relax.Expr) -> tuple[relax.Expr, str]:
    """Read through the transpose in front of a network's first convolution, which copies its input anyway."""
    source = rewriter.definition(data)
    if op_name(source) == "permute_dims" and [int(axis) for axis in source.attrs.axes] == [0, 2, 3, 1]:
        return source.args[0], "NCHW"
    return data, "NHWC"


def _plane(expr: relax.Expr) -> tuple[int, int, int] | None:
    """Height, width and channels of an NHWC value where they are known."""
    shape = list(expr.ty.shape)
    known = len(shape) == 4 and all(isinstance(extent, tirx.IntImm) for extent in shape[1:])
    if not known or expr.ty.dtype != "float32":
        return None
    return int(shape[1]), int(shape[2]), int(shape[3])


def _extent(extent: tvm.ir.Expr) -> int:
    """A known extent, or 1 for a symbolic one: knobs and counts are then per item."""
    return int(extent) if isinstance(extent, tirx.IntImm) else 1


def _pair(values: Sequence[Any]) -> tuple[int, int]:
    first, *rest = (int(value) for value in values)
    return (first, rest[0] if rest else first)


def _four(values: Sequence[Any]) -> tuple[int, int, int, int]:
    padding = tuple(int(value) for value in values)
    return padding if len(padding) == 4 else (padding * 2)[:4] if len(padding) == 2 else padding * 4  # type: ignore
