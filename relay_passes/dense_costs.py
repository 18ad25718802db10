"""What a dense convolution costs by estimate."""

import numpy as np

from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.tile import TileProblem, cycles, default_knobs
from tvm_fastconv.topi.winograd_conv2d import OUTPUTS

from .dispatch_winograd import is_candidate, winograd_cost


def dense_cycles(problem: TileProblem, params: Conv2dParams, weight: np.ndarray, machine: Machine) -> float:
    """Of the faster of direct convolution and Winograd's."""
    candidates = [problem.batch * cycles(problem, default_knobs(problem, machine), machine)]
    if is_candidate(params):
        candidates += [winograd_cost(problem, weight, m, machine)[0] for m in OUTPUTS[weight.shape[-1]]]
    return min(candidates)
