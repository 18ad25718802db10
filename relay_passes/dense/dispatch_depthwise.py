"""Depthwise convolutions and pooling → ours: whatever slides a window over one channel at a time."""

import tvm
from tvm import relax

from tvm_fastconv.topi.depthwise_conv2d import DepthwiseProblem, depthwise_conv2d, pack_depthwise_weight
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.pool2d import PoolProblem, pool2d

from ..graph.conv_call import conv2d_of, conv_problem, extent, layer_report, plane_of, pooling_of
from ..graph.operator_call import operator_call
from ..graph.rewrite import CallRewriter, op_name, rewrite_calls


@tvm.transform.module_pass(opt_level=0, name="DispatchDepthwise")
class DispatchDepthwise:
    """Swap depthwise convolutions and pooling for ours.

    Parameters
    ----------
    planner : Planner
    """

    def __init__(self, planner: Planner) -> None:
        self.planner = planner

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        rules = {"nn.conv2d": self._conv2d, "nn.max_pool2d": self._pool2d, "nn.avg_pool2d": self._pool2d}
        return rewrite_calls(mod, rules)

    def _conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        found, plane = conv2d_of(call), plane_of(call.args[0])
        if found is None or plane is None or found[0].groups != plane[2] or plane[2] == 1:
            return None
        params, weight = found
        problem = DepthwiseProblem(**vars(conv_problem(call, params)))
        plan = self.planner.planned("depthwise_conv2d", problem)
        return operator_call(
            rewriter,
            call,
            depthwise_conv2d,
            [call.args[0], relax.const(pack_depthwise_weight(weight))],
            plan=plan,
            report=layer_report("depthwise", call, weight),
            params=params,
            tile=plan.knobs,
        )

    def _pool2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        params, plane = pooling_of(call), plane_of(call.args[0])
        if params is None or plane is None:
            return None
        problem = PoolProblem(
            batch=extent(call.ty.shape[0]),
            height=plane[0],
            width=plane[1],
            out_size=(int(call.ty.shape[1]), int(call.ty.shape[2])),
            window=params,
            kind="max" if op_name(call) == "nn.max_pool2d" else "avg",
            count_include_pad=bool(call.attrs.count_include_pad),
        )
        plan = self.planner.planned(f"{problem.kind}_pool2d", problem)
        return operator_call(
            rewriter,
            call,
            pool2d,
            [call.args[0]],
            plan=plan,
            params=params,
            out_size=problem.out_size,
            kind=problem.kind,
            count_include_pad=problem.count_include_pad,
            tile=plan.knobs,
        )
