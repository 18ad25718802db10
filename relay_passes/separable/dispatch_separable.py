"""Chains of convolutions → one function, or one dense convolution, or as they are: what is fastest by estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.configs import Dense, Method
from tvm_fastconv.notices import notify
from tvm_fastconv.topi.chain import operator_of_stage
from tvm_fastconv.topi.conv2d import Conv2dParams, conv2d, pack_weight
from tvm_fastconv.topi.cycles import on_one_footing
from tvm_fastconv.topi.depthwise_conv2d import depthwise_conv2d, kernel_major, pack_depthwise_weight
from tvm_fastconv.topi.fixed_stencil_conv2d import fixed_stencils
from tvm_fastconv.topi.planner import Plan, Planner

from ..graph.conv_call import layer_report
from ..graph.layer_notes import LayerNotes, notes_of
from ..graph.operator_call import operator_call
from ..graph.rewrite import CallRewriter, along_channel, keep_name, op_name, rewrite_calls
from .chain_costs import fused_plan, last_ones, may_multiply_out, reconstructed_cycles, unfused_cycles
from .reconstructed_chains import reconstructed
from .separable_chains import Chain, Stage, separable_chains

MIN_GAIN = 1.03
"""By which a fused chain must be faster by estimate; less is within the estimate's error."""

DENSE = "dense(reconstructed)"
"""How reports call a chain that is multiplied out."""


@tvm.transform.module_pass(opt_level=0, name="DispatchSeparable")
class DispatchSeparable:
    """Recognise chains of separable convolutions and choose how they run.

    Parameters
    ----------
    planner : Planner
    methods : mapping, optional
        Layer name to what the user asked for: a ``Dense`` layer belongs to no chain. Layers that were approximated
        keep the method that was asked for, and are not multiplied out, with a warning where that would be faster.
    """

    def __init__(self, planner: Planner, methods: Mapping[str, Method] | None = None) -> None:
        self.planner, self.methods = planner, methods or {}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        apart = [name for name, method in self.methods.items() if isinstance(method, Dense)]
        functions = [func for func in mod.functions.values() if isinstance(func, relax.Function)]
        choices = _Choices(self.planner, notes_of(mod))
        for chain in [chain for func in functions for chain in separable_chains(func, apart)]:
            choices.choose(chain)
        if choices.slower:
            layers = ", ".join(f"{name} ({times:.1f} times)" for name, times in choices.slower.items())
            notify(f"as asked for, these layers take longer by estimate than dense ones would: {layers}")
        return choices.notes.written_to(rewrite_calls(mod, {"nn.conv2d": choices.rule}))


class _Choices:
    """How the chains of one module run: what becomes of each convolution, and what the report says of it."""

    def __init__(self, planner: Planner, known: dict[str, dict[str, str]]) -> None:
        self.planner, self.known = planner, known
        self.actions: dict[relax.Var, _Action] = {}
        self.notes = LayerNotes()
        self.slower: dict[str, float] = {}
        self.fused = 0

    def rule(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """Rule for ``nn.conv2d``."""
        action = self.actions.get(rewriter.binding)
        return None if action is None else action(rewriter, call)

    def choose(self, chain: Chain) -> None:
        """The fastest way by estimate."""
        costs = {"unfused": unfused_cycles(chain, self.planner)}
        plan = fused_plan(chain, self.planner)
        if plan is not None:
            costs["fused"] = plan.cycles
        dense = reconstructed(chain) if may_multiply_out(chain) else None
        if dense is not None:
            costs[DENSE] = reconstructed_cycles(chain, dense[2], self.planner)
        costs = on_one_footing(costs)
        possible = costs | {"fused": costs["fused"] * MIN_GAIN} if plan is not None else dict(costs)
        if "approximation" in self.known.get(chain.last.name, {}):
            possible.pop(DENSE, None)
        way = min(possible, key=possible.__getitem__)
        if DENSE not in possible and costs.get(DENSE, float("inf")) < costs[way]:
            self.slower[chain.last.name] = costs[way] / costs[DENSE]
        reason = _reason(chain, way, costs)
        for stage in chain.stages:
            method = self.known.get(stage.name, {}).get("method", chain.method)
            self.notes.note(stage.name, method=method, reason=reason)
        if way == "fused" and plan is not None:
            fused = _Reordered if chain.multiplies else _Fused
            for stage, problem, knobs in zip(
                chain.stages, plan.problem.stages, plan.knobs.stages, strict=True
            ):
                own = self.planner.asked(operator_of_stage(problem), problem, knobs)
                own = replace(own, source=plan.source, gain=plan.gain)
                self.actions[stage.var] = fused(chain, str(self.fused), stage, own)
            self.fused += 1
        elif way == DENSE and dense is not None:
            self.actions[chain.last.var] = _Reconstructed(chain, *dense)
        elif (part := last_ones(chain, self.planner)) is not None:
            self.choose(part)


_Action = Callable[[CallRewriter, relax.Call], relax.Expr]


def _reason(chain: Chain, way: str, costs: dict[str, float]) -> str:
    names = " + ".join(stage.name for stage in chain.stages)
    others = [f"{name} {cost / costs[way]:.2f} times as long" for name, cost in costs.items() if name != way]
    return "; ".join([f"{way}: {names}", *([f"by estimate {', '.join(others)}"] if others else [])])


@dataclass(frozen=True)
class _Fused:
    """A stage becomes our operator, marked for `FuseChains`."""

    chain: Chain
    number: str
    stage: Stage
    plan: Plan[Any]

    def __call__(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr:
        data, weight, plan = call.args[0], self.stage.weight, self.plan
        if plan.op == "depthwise_conv2d":
            packed = relax.const(pack_depthwise_weight(weight))
            return self._operator(rewriter, call, depthwise_conv2d, [data, packed])
        packed = relax.const(pack_weight(weight, plan.knobs.panel))
        return self._operator(rewriter, call, conv2d, [data, packed])

    def _operator(
        self,
        rewriter: CallRewriter,
        call: relax.Call,
        compute: Callable,
        args: list[relax.Expr],
        **kwargs: Any,
    ) -> relax.Call:
        return operator_call(
            rewriter,
            call,
            compute,
            args,
            plan=self.plan,
            report=layer_report(self.chain.method, call, self.stage.weight) | {"op": self.chain.op},
            chain=self.number,
            params=self.stage.params,
            tile=self.plan.knobs,
            **kwargs,
        )


@dataclass(frozen=True)
class _Reordered(_Fused):
    """The same where a depthwise stage has several kernels: all channels of the first one, then of the next."""

    def __call__(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr:
        first, stage, plan = self.chain.stages[0], self.stage, self.plan
        if plan.op == "fixed_stencils":
            kernels = plan.problem.array
            sums = self._operator(rewriter, call, fixed_stencils, [call.args[0]], kernels=kernels)
            return _in_shape(rewriter, sums, call)
        if plan.op == "depthwise_conv2d":
            packed = relax.const(pack_depthwise_weight(kernel_major(stage.weight, first.channels, axis=0)))
            sums = self._operator(rewriter, call, depthwise_conv2d, [call.args[0], packed], kernel_major=True)
            return _in_shape(rewriter, sums, call)
        packed = relax.const(
            pack_weight(kernel_major(stage.weight, first.channels, axis=1), plan.knobs.panel)
        )
        sums = self._operator(rewriter, call, conv2d, [_as_made(rewriter, first.var), packed])
        if first.bias is None:
            return sums
        bias = stage.weight[:, :, 0, 0].astype(np.float64) @ first.bias
        return relax.op.add(rewriter.builder_.emit(sums), along_channel(bias.astype(np.float32), 4, 3))


def _in_shape(rewriter: CallRewriter, value: relax.Call, call: relax.Call) -> relax.Expr:
    """``value`` in the shape of ``call``; kernels may have an axis of their own, which only the next stage looks at."""
    if len(value.ty_args[0].shape) == len(call.ty.shape):
        return value
    return relax.op.reshape(rewriter.builder_.emit(value), call.ty.shape)


def _as_made(rewriter: CallRewriter, var: relax.Var) -> relax.Expr:
    """What ``var`` has become, in the shape in which it was made."""
    found = rewriter.visit_expr(var)
    value = rewriter.builder_.lookup_binding(found)
    return value.args[0] if op_name(value) == "reshape" else found


@dataclass(frozen=True)
class _Reconstructed:
    """The last stage becomes the dense convolution of what the first one reads."""

    chain: Chain
    weight: np.ndarray
    bias: np.ndarray | None
    params: Conv2dParams

    def __call__(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr:
        kernel = np.ascontiguousarray(self.weight.transpose(0, 2, 3, 1))
        dense = relax.op.nn.conv2d(
            rewriter.visit_expr(self.chain.stages[0].call.args[0]),
            relax.const(kernel),
            self.params.stride,
            self.params.padding,
            self.params.dilation,
            1,
            "NHWC",
            "OHWI",
        )
        if self.bias is None:
            return keep_name(dense, call)
        return relax.op.add(rewriter.emit(dense, call), along_channel(self.bias, 4, 3))
