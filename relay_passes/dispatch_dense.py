"""Dense operators → our own: convolutions and linear layers with constant weights.

Runs last of the dispatch passes: whatever no structured operator wanted ends here, and what has no constant weights
stays a standard operator.
"""

import dataclasses
import math

import tvm
from tvm import relax

from tvm_fastconv.topi.conv2d import conv2d, merge_groups, pack_weight
from tvm_fastconv.topi.dense import dense
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.tile import TileProblem, default_knobs

from .conv_call import absorb_transpose, conv2d_of, direct_problem, extent, layer_report
from .graph import CallRewriter, constant_array, rewrite_calls
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
        rules = {"nn.conv2d": self._conv2d, "nn.conv2d_transpose": self._conv2d, "matmul": self._matmul}
        return rewrite_calls(mod, rules)

    def _conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        found = conv2d_of(call)
        if found is None:
            return None
        params, weight = found
        report = layer_report("dense", call, weight)
        weight, groups = merge_groups(weight, params.groups, self.machine.lanes)
        params = dataclasses.replace(params, groups=groups)
        knobs = default_knobs(direct_problem(call, params, weight), self.machine)
        data, params = absorb_transpose(rewriter, call.args[0], params)
        return operator_call(
            rewriter,
            call,
            conv2d,
            [data, relax.const(pack_weight(weight, knobs.panel))],
            op="conv2d",
            knobs=knobs.to_json(),
            report=report,
            params=params,
            tile=knobs,
        )

    def _matmul(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        weight, data = constant_array(call.args[1]), call.args[0]
        if weight is None or weight.ndim != 2 or weight.dtype != "float32" or len(data.ty.shape) < 2:
            return None
        *lead, rows, k = (extent(n) for n in data.ty.shape)
        problem = TileProblem(
            batch=math.prod(lead),
            height=1,
            width=rows,
            out_channels=weight.shape[1],
            groups=1,
            reduction=k,
            strip_row_bytes=4 * k * rows,
            weight_bytes=weight.nbytes,
        )
        knobs = default_knobs(problem, self.machine)
        packed = pack_weight(weight.T.reshape(*weight.T.shape, 1, 1), knobs.panel)
        return operator_call(
            rewriter,
            call,
            dense,
            [data, relax.const(packed)],
            op="dense",
            knobs=knobs.to_json(),
            report=layer_report("dense", call, weight.T),
            tile=knobs,
            out_features=weight.shape[1],
        )
