"""What a chain of convolutions costs by estimate: one operator after the other, fused, or as one dense convolution."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from tvm_fastconv.topi.chain import ChainProblem
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.cycles import Cycles
from tvm_fastconv.topi.depthwise_conv2d import DepthwiseProblem
from tvm_fastconv.topi.fixed_stencil_conv2d import MAX_TERMS, StencilProblem, stencil_terms
from tvm_fastconv.topi.operators import operator_of
from tvm_fastconv.topi.planner import Plan, Planner

from ..dense.dense_costs import dense_cycles
from ..graph.rewrite import static_shape
from .separable_chains import Chain, Stage

MAX_GROWTH = 6.0
"""How many times more weights a dense convolution may have than the chain; Winograd's algorithm saves no more."""


def unfused_cycles(chain: Chain, planner: Planner) -> float:
    """All stages as operators of their own, and the way of what is between them through memory."""
    machine, total = planner.machine, sum(_alone(stage, planner) for stage in chain.stages)
    for stage in chain.stages[:-1]:
        # What was measured wrote and read its results already.
        passing = Cycles(stage.batch * machine.handover_cycles(4 * math.prod(stage.plane)), 0.0)
        total += machine.call_cycles + passing
    return total


def reconstructed_cycles(chain: Chain, params: Conv2dParams, planner: Planner) -> float:
    """The dense convolution in place of all."""
    return dense_cycles(planner, dataclasses.replace(chain.stages[0].problem, conv=params))


def fused_plan(chain: Chain, planner: Planner) -> Plan[Any] | None:
    """How the chain runs as one function; ``None`` where it cannot, or no strip's inner values stay in L2."""
    if not planner.has("chain"):
        return None
    # The bounds of a strip of rows with gaps between them are beyond TVM's analysis.
    any_batch = chain_knobs(planner).any_batch or static_shape(chain.last.call) is not None
    known = any_batch and not any(map(_leaves_gaps, chain.stages[1:]))
    if not known or not _has_templates(chain):
        return None
    stages = tuple(fused_problem(stage, chain) for stage in chain.stages)
    return planner.plan("chain", ChainProblem(batch=chain.last.batch, stages=stages))


def chain_knobs(planner: Planner) -> Any:
    """The class of a fused chain's knobs, which says what one may be."""
    return operator_of(planner.machine.kind, "chain").knobs


def last_ones(chain: Chain, planner: Planner) -> Chain | None:
    """The last stages of a chain that is longer than what one function takes."""
    most = chain_knobs(planner).most_stages if planner.has("chain") else None
    if most is None or len(chain.stages) <= most:
        return None
    return dataclasses.replace(chain, stages=chain.stages[-most:])


def may_multiply_out(chain: Chain) -> bool:
    """Whether the dense convolution can be the fastest at all: the larger ones take time and memory to make."""
    kernels = [math.prod(stage.params.kernel) for stage in chain.stages]
    dense = chain.last.params.out_channels * chain.stages[0].channels * math.prod(kernels)
    return dense <= MAX_GROWTH * sum(stage.weight.size for stage in chain.stages)


def written_out(stage: Stage) -> np.ndarray | None:
    """The kernels of a stage that runs as `fixed_stencils`."""
    kernels = stage.shared_kernels
    return None if kernels is None or stencil_terms(kernels) > MAX_TERMS else kernels


def fused_problem(stage: Stage, chain: Chain) -> ConvProblem:
    """What is asked of one stage of a fused chain."""
    fields = vars(stage.problem)
    if not stage.depthwise:
        return ConvProblem(**fields)
    if (kernels := written_out(stage)) is not None and chain.multiplies:
        return StencilProblem(
            **fields, kernels=tuple(tuple(tuple(map(float, row)) for row in kernel) for kernel in kernels)
        )
    return DepthwiseProblem(**fields, kernel_major=chain.multiplies)


def _has_templates(chain: Chain) -> bool:
    """Whether every stage has one.

    Kernels of a channel are put into another order: only a bias may follow them, and is folded into the next stage.
    """
    if chain.multiplies:
        first, last = chain.stages
        return first.linear and (first.bias is None or not any(last.params.padding))
    return all(
        stage.params.groups == 1 or (stage.depthwise and stage.params.out_channels == stage.channels)
        for stage in chain.stages
    )


def _leaves_gaps(stage: Stage) -> bool:
    """Whether neighbouring windows do not touch."""
    params = stage.params
    return any(params.stride[i] > (params.kernel[i] - 1) * params.dilation[i] + 1 for i in (0, 1))


def _alone(stage: Stage, planner: Planner) -> float:
    if stage.depthwise:
        return planner.planned("depthwise_conv2d", DepthwiseProblem(**vars(stage.problem))).cycles
    return dense_cycles(planner, stage.problem)
