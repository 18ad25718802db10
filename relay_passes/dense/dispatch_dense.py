"""Dense operators → our own: convolutions and linear layers with constant weights.

Runs last of the dispatch passes: whatever no structured operator wanted ends here, and what has no constant weights
stays a standard operator.
"""

import tvm
from tvm import relax

from tvm_fastconv.topi.conv2d import conv2d, pack_weight
from tvm_fastconv.topi.dense import dense
from tvm_fastconv.topi.grouped_conv2d import grouped_conv2d
from tvm_fastconv.topi.planner import Planner

from ..graph.conv_call import (
    absorb_transpose,
    conv2d_of,
    conv_problem,
    layer_report,
    linear_of,
    linear_problem,
)
from ..graph.operator_call import operator_call
from ..graph.rewrite import CallRewriter, rewrite_calls
from .direct_plan import plan_direct


@tvm.transform.module_pass(opt_level=0, name="DispatchDense")
class DispatchDense:
    """Swap dense operators for ours.

    Parameters
    ----------
    planner : Planner
    """

    def __init__(self, planner: Planner) -> None:
        self.planner = planner

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        rules = {"nn.conv2d": self._conv2d, "nn.conv2d_transpose": self._conv2d, "matmul": self._matmul}
        return rewrite_calls(mod, rules)

    def _conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        found = conv2d_of(call)
        if found is None:
            return None
        params, weight = found
        data, params = absorb_transpose(rewriter, call.args[0], params)
        plan = plan_direct(self.planner, conv_problem(call, params))
        return operator_call(
            rewriter,
            call,
            {"conv2d": conv2d, "grouped_conv2d": grouped_conv2d}[plan.op],
            [data, relax.const(pack_weight(weight, plan.knobs.panel))],
            plan=plan,
            report=layer_report("dense", call, weight),
            params=params,
            tile=plan.knobs,
        )

    def _matmul(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        found = linear_of(call)
        if found is None:
            return None
        _, weight = found
        plan = self.planner.planned("dense", linear_problem(call, len(weight)))
        return operator_call(
            rewriter,
            call,
            dense,
            [call.args[0], relax.const(pack_weight(weight, plan.knobs.panel))],
            plan=plan,
            report=layer_report("dense", call, weight),
            tile=plan.knobs,
            out_features=len(weight),
        )
