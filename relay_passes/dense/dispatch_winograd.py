"""Convolutions of 3, 4 or 5 taps a phase → Winograd, where it is faster by estimate and the weights allow it.

Those are kernels of 3×3 to 5×5 with stride 1, of 5×5 to 10×10 with stride 2, 11×11 with stride 4. F(m×m) of several m
compete with each other and with the direct convolution. A candidate is tried on the layer's own weights first:
`MAX_ERROR` bounds what it may cost in accuracy. A layer whose output decides something (a sign, a comparison, a
rounding) stays direct. Winograd's weights are four times as large, or 1.8 times: where that is too much for a device,
the layers that gain the least for it stay direct.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.topi.conv2d import ConvProblem
from tvm_fastconv.topi.cycles import on_one_footing
from tvm_fastconv.topi.planner import Plan, Planner
from tvm_fastconv.topi.winograd_conv2d import (
    WinogradProblem,
    pack_winograd_weight,
    phase_taps,
    winograd_conv2d,
    winograd_error,
)
from tvm_fastconv.topi.winograd_transforms import OUTPUTS

from ..graph.conv_call import absorb_transpose, conv2d_of, conv_problem, layer_report
from ..graph.operator_call import operator_call
from ..graph.rewrite import CallRewriter, constant_array, rewrite_calls
from ..graph.thresholds import decisive_values
from .direct_plan import plan_direct
from .weight_budget import Choice, choose_within

MAX_ERROR = 2e-5
"""Of the largest output; what a float layer may differ by from the same layer in plain float32."""

DIRECT = 1
"""A direct convolution is F(1×1)."""


@tvm.transform.module_pass(opt_level=0, name="DispatchWinograd")
class DispatchWinograd:
    """Swap 3×3 and 5×5 convolutions for Winograd's algorithm.

    Parameters
    ----------
    planner : Planner
    growth : float, optional
        How many times as large all weights may become. That they are read anew for each inference is part of the
        estimates; what a file and memory hold is not.
    """

    def __init__(self, planner: Planner, growth: float = math.inf) -> None:
        self.planner, self.growth = planner, growth
        self.decisive: set[relax.Var] = set()
        self.candidates: dict[relax.Var, _Candidate] = {}
        self.chosen: dict[relax.Var, int] = {}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        functions = [func for func in mod.functions.values() if isinstance(func, relax.Function)]
        self.decisive = set().union(*map(decisive_values, functions))
        rewrite_calls(mod, {"nn.conv2d": self._consider})
        total = sum(map(_constant_bytes, functions))
        others = total - sum(candidate.weight.nbytes for candidate in self.candidates.values())
        choices = [candidate.choices for candidate in self.candidates.values()]
        chosen = choose_within(choices, self.growth * total - others)
        self.chosen = dict(zip(self.candidates, chosen, strict=True))
        return rewrite_calls(mod, {"nn.conv2d": self._conv2d})

    def _consider(self, rewriter: CallRewriter, call: relax.Call) -> None:
        """Note what a convolution could become."""
        found = conv2d_of(call)
        if found is None or rewriter.binding is None or rewriter.binding in self.decisive:
            return
        params, weight = found
        _, params = absorb_transpose(rewriter, call.args[0], params)
        problem = conv_problem(call, params)
        plans = {plan.problem.m: plan for plan in winograd_plans(self.planner, problem)}
        if not plans:
            return
        cycles = {m: plan.cycles for m, plan in plans.items()}
        costs = on_one_footing(cycles | {DIRECT: plan_direct(self.planner, problem).cycles})
        faster = [m for m in plans if costs[m] < costs[DIRECT]]
        stride = params.stride[0]
        errors = {m: error for m in faster if (error := winograd_error(weight, m, stride)) <= MAX_ERROR}
        choices = {m: Choice(costs[m], plans[m].problem.winograd_loops.tile.weight_bytes) for m in errors}
        choices[DIRECT] = Choice(costs[DIRECT], weight.nbytes)
        self.candidates[rewriter.binding] = _Candidate(weight, plans, errors, choices)

    def _conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        found, m = conv2d_of(call), self.chosen.get(rewriter.binding, DIRECT)
        if found is None or m == DIRECT:
            return None
        candidate = self.candidates[rewriter.binding]
        data, _ = absorb_transpose(rewriter, call.args[0], found[0])
        times = candidate.choices[DIRECT].cost / candidate.choices[m].cost
        reason = f"F({m}x{m}): {times:.1f} times faster by estimate, error {candidate.errors[m]:.0e}"
        return _winograd(rewriter, call, data, candidate.weight, candidate.plans[m], reason)


@dataclass(frozen=True)
class _Candidate:
    """A convolution that can be Winograd's: by m its plans, its errors where it pays, and all that can be chosen."""

    weight: np.ndarray
    plans: Mapping[int, Plan[Any]]
    errors: Mapping[int, float]
    choices: Mapping[int, Choice]


def _constant_bytes(func: relax.Function) -> int:
    sizes: list[int] = []

    def visit(expr: relax.Expr) -> None:
        if (array := constant_array(expr)) is not None:
            sizes.append(array.nbytes)

    relax.analysis.post_order_visit(func, visit)
    return sum(sizes)


def winograd_plans(planner: Planner, problem: ConvProblem) -> list[Plan[Any]]:
    """One for each F(m×m) that the convolution can be: square, of one group, without dilation."""
    conv = problem.conv
    plain = conv.dilation == conv.input_dilation == (1, 1) and conv.groups == 1 and min(conv.padding) >= 0
    square = conv.kernel[0] == conv.kernel[1] and conv.stride[0] == conv.stride[1]
    if not planner.has("winograd_conv2d") or not plain or not square:
        return []
    if planner.machine.kind == "cuda" and conv.stride[0] > 1:  # never measured
        return []
    outputs = OUTPUTS.get(phase_taps(conv), ())
    return [planner.planned("winograd_conv2d", WinogradProblem(**vars(problem), m=m)) for m in outputs]


def _winograd(
    rewriter: CallRewriter,
    call: relax.Call,
    data: relax.Expr,
    weight: np.ndarray,
    plan: Plan[Any],
    reason: str,
) -> relax.Expr:
    problem = plan.problem
    packed = pack_winograd_weight(weight, problem.m, plan.knobs.panel, problem.conv.stride[0])
    report = layer_report("dense", call, weight, reason)
    report |= {"weight_bytes": packed.nbytes, "operations": _operations(problem)}
    args = [data, relax.const(packed)]
    how = {"params": problem.conv, "m": problem.m, "tile": plan.knobs}
    return operator_call(rewriter, call, winograd_conv2d, args, plan=plan, report=report, **how)


def _operations(problem: WinogradProblem) -> int:
    tile, elements = problem.winograd_loops.tile, problem.winograd_loops.size**2
    return tile.batch * tile.height * tile.width * elements * tile.reduction * tile.out_channels
