"""Depthwise convolutions and pooling → ours: whatever slides a window over one channel at a time."""

import tvm
from tvm import relax

from tvm_fastconv.topi.depthwise_conv2d import depthwise_conv2d, pack_depthwise_weight
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.pool2d import pool2d
from tvm_fastconv.topi.schedules.cpu.window import default_window_knobs

from ..graph.conv_call import conv2d_of, extent, layer_report, plane_of, pooling_of
from ..graph.operator_call import operator_call
from ..graph.rewrite import CallRewriter, op_name, rewrite_calls


@tvm.transform.module_pass(opt_level=0, name="DispatchDepthwise")
class DispatchDepthwise:
    """Swap depthwise convolutions and pooling for ours, with default knobs for the current target.

    Parameters
    ----------
    target : Target
    """

    def __init__(self, target: tvm.target.Target) -> None:
        self.machine = Machine.of(target)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        rules = {"nn.conv2d": self._conv2d, "nn.max_pool2d": self._pool2d, "nn.avg_pool2d": self._pool2d}
        return rewrite_calls(mod, rules)

    def _conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        found, plane = conv2d_of(call), plane_of(call.args[0])
        if found is None or plane is None or found[0].groups != plane[2] or plane[2] == 1:
            return None
        params, weight = found
        batch = extent(call.ty.shape[0])
        knobs = default_window_knobs(
            batch, *params.output_size(*plane[:2]), params.out_channels, self.machine
        )
        return operator_call(
            rewriter,
            call,
            depthwise_conv2d,
            [call.args[0], relax.const(pack_depthwise_weight(weight))],
            op="depthwise_conv2d",
            knobs=knobs.to_json(),
            report=layer_report("depthwise", call, weight),
            params=params,
            tile=knobs,
        )

    def _pool2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        params = pooling_of(call)
        if params is None:
            return None
        out_size = (int(call.ty.shape[1]), int(call.ty.shape[2]))
        knobs = default_window_knobs(extent(call.ty.shape[0]), *out_size, params.out_channels, self.machine)
        kind = "max" if op_name(call) == "nn.max_pool2d" else "avg"
        return operator_call(
            rewriter,
            call,
            pool2d,
            [call.args[0]],
            op=f"{kind}_pool2d",
            knobs=knobs.to_json(),
            params=params,
            out_size=out_size,
            kind=kind,
            count_include_pad=bool(call.attrs.count_include_pad),
            tile=knobs,
        )
