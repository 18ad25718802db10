"""What a dense convolution costs by estimate."""

from tvm_fastconv.topi.conv2d import ConvProblem
from tvm_fastconv.topi.planner import Planner

from .direct_plan import plan_direct
from .dispatch_winograd import winograd_plans


def dense_cycles(planner: Planner, problem: ConvProblem) -> float:
    """Of the faster of direct convolution and Winograd's."""
    plans = [plan_direct(planner, problem), *winograd_plans(planner, problem)]
    return min(plan.cycles for plan in plans)
