"""What a dense convolution costs by estimate."""

import numpy as np

from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.cpu.tile import TileProblem
from tvm_fastconv.topi.winograd_conv2d import OUTPUTS

from .direct_plan import plan_direct
from .dispatch_winograd import is_candidate, winograd_cost


def dense_cycles(problem: TileProblem, params: Conv2dParams, weight: np.ndarray, machine: Machine) -> float:
    """Of the faster of direct convolution and Winograd's."""
    candidates = [problem.batch * plan_direct(problem, params, machine).cycles]
    if is_candidate(params):
        candidates += [winograd_cost(problem, weight, m, machine)[0] for m in OUTPUTS[weight.shape[-1]]]
    return min(candidates)
