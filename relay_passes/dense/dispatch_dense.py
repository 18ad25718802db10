"""Dense operators → our own: convolutions and linear layers with constant weights.

Runs last of the dispatch passes: whatever no structured operator wanted ends here, and what has no constant weights
stays a standard operator. A layer whose output decides something (a sign, a comparison, a rounding) is computed in
FP32 even where TF32 is allowed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.topi.conv2d import conv2d, pack_weight
from tvm_fastconv.topi.dense import dense
from tvm_fastconv.topi.grouped_conv2d import grouped_conv2d
from tvm_fastconv.topi.planner import Plan, Planner
from tvm_fastconv.topi.tf32_conv2d import pack_tf32_weight, tf32_conv2d, tf32_dense

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
from ..graph.thresholds import decisive_values
from .direct_plan import direct_reason, plan_direct, plan_linear

CONVOLUTIONS: dict[str, Callable] = {
    "conv2d": conv2d,
    "grouped_conv2d": grouped_conv2d,
    "tf32_conv2d": tf32_conv2d,
}
LINEAR: dict[str, Callable] = {"dense": dense, "tf32_conv2d": tf32_dense}
"""What computes a layer, by the operator of its plan."""


@tvm.transform.module_pass(opt_level=0, name="DispatchDense")
class DispatchDense:
    """Swap dense operators for ours.

    Parameters
    ----------
    planner : Planner
    """

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.decisive: set[relax.Var] = set()

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        functions = [func for func in mod.functions.values() if isinstance(func, relax.Function)]
        self.decisive = set().union(*map(decisive_values, functions))
        rules = {"nn.conv2d": self._conv2d, "nn.conv2d_transpose": self._conv2d, "matmul": self._matmul}
        return rewrite_calls(mod, rules)

    def _conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        found = conv2d_of(call)
        if found is None:
            return None
        params, weight = found
        data, params = absorb_transpose(rewriter, call.args[0], params)
        problem = conv_problem(call, params)
        exact = plan_direct(self.planner, problem, exact=True)
        plan = exact if rewriter.binding in self.decisive else plan_direct(self.planner, problem)
        return operator_call(
            rewriter,
            call,
            CONVOLUTIONS[plan.op],
            [data, relax.const(_packed(weight, plan))],
            plan=plan,
            report=layer_report("dense", call, weight, direct_reason(plan, exact)),
            params=params,
            tile=plan.knobs,
        )

    def _matmul(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        found = linear_of(call)
        if found is None:
            return None
        _, weight = found
        problem = linear_problem(call, len(weight))
        exact = plan_linear(self.planner, problem, exact=True)
        plan = exact if rewriter.binding in self.decisive else plan_linear(self.planner, problem)
        return operator_call(
            rewriter,
            call,
            LINEAR[plan.op],
            [call.args[0], relax.const(_packed(weight, plan))],
            plan=plan,
            report=layer_report("dense", call, weight, direct_reason(plan, exact)),
            tile=plan.knobs,
            out_features=len(weight),
        )


def _packed(weight: np.ndarray, plan: Plan[Any]) -> np.ndarray:
    """``weight`` in the form that the operator of ``plan`` reads."""
    if plan.op == "tf32_conv2d":
        return pack_tf32_weight(weight, plan.knobs)
    return pack_weight(weight, plan.knobs.panel)
