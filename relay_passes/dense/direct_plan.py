"""Which operator computes a convolution directly, or a linear layer.

Of several groups, `conv2d` keeps the vectors of a tile inside one, where their lanes divide its outputs;
`grouped_conv2d` lets them span groups, which always fits. Where the planner allows it, `tf32_conv2d` competes with both
forms of one group.
"""

from typing import Any

from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.cycles import cheapest
from tvm_fastconv.topi.dense import MatmulProblem
from tvm_fastconv.topi.grouped_conv2d import GroupedProblem
from tvm_fastconv.topi.planner import Plan, Planner


def plan_direct(planner: Planner, problem: ConvProblem, exact: bool = False) -> Plan[Any]:
    """The operator with the least estimated cycles; with ``exact``, none that rounds factors."""
    if problem.conv.groups > 1:
        across = planner.planned("grouped_conv2d", GroupedProblem(**vars(problem)))
        return _cheapest(planner.plan("conv2d", problem), across)
    return _cheapest(planner.planned("conv2d", problem), None if exact else _in_tf32(planner, problem))


def plan_linear(planner: Planner, problem: MatmulProblem, exact: bool = False) -> Plan[Any]:
    """The same for a linear layer: to `tf32_conv2d`, a row is a plane of one pixel."""
    conv = Conv2dParams(kernel=(1, 1), out_channels=problem.columns)
    rows = ConvProblem(
        batch=problem.batch * problem.rows, height=1, width=1, channels=problem.inner, conv=conv
    )
    return _cheapest(planner.planned("dense", problem), None if exact else _in_tf32(planner, rows))


def direct_reason(plan: Plan[Any], exact: Plan[Any]) -> str:
    """What the report says of ``plan``, where it is chosen over ``exact``."""
    if plan.op == exact.op:
        return ""
    return f"TF32, as allowed: {exact.cycles / plan.cycles:.1f} times faster than direct in FP32 by estimate"


def _in_tf32(planner: Planner, problem: ConvProblem) -> Plan[Any] | None:
    return planner.plan("tf32_conv2d", problem) if planner.allow_tf32 else None


def _cheapest(*plans: Plan[Any] | None) -> Plan[Any]:
    by_op = {plan.op: plan for plan in plans if plan is not None}
    return by_op[cheapest({op: plan.cycles for op, plan in by_op.items()})]
