"""Which operator computes a convolution directly.

Of several groups, `conv2d` keeps the vectors of a tile inside one, where their lanes divide its outputs;
`grouped_conv2d` lets them span groups, which always fits.
"""

from typing import Any

from tvm_fastconv.topi.conv2d import ConvProblem
from tvm_fastconv.topi.cycles import cheapest
from tvm_fastconv.topi.grouped_conv2d import GroupedProblem
from tvm_fastconv.topi.planner import Plan, Planner


def plan_direct(planner: Planner, problem: ConvProblem) -> Plan[Any]:
    """The operator with the least estimated cycles."""
    if problem.conv.groups == 1:
        return planner.planned("conv2d", problem)
    across = planner.planned("grouped_conv2d", GroupedProblem(**vars(problem)))
    within = planner.plan("conv2d", problem)
    plans = {plan.op: plan for plan in (within, across) if plan is not None}
    return plans[cheapest({op: plan.cycles for op, plan in plans.items()})]
