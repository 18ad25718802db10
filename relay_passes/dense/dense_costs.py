"""What a dense convolution costs by estimate."""

from tvm_fastconv.topi.conv2d import ConvProblem
from tvm_fastconv.topi.cycles import Cycles, cheapest
from tvm_fastconv.topi.planner import Planner

from .direct_plan import plan_direct
from .dispatch_winograd import winograd_plans


def dense_cycles(planner: Planner, problem: ConvProblem) -> Cycles:
    """Of the faster of direct convolution and Winograd's."""
    plans = [plan_direct(planner, problem), *winograd_plans(planner, problem)]
    return plans[cheapest({place: plan.cycles for place, plan in enumerate(plans)})].cycles
