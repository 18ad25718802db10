"""Chains of convolutions → one function, or one dense convolution, or as they are: what is fastest by estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.configs import Dense, Method
from tvm_fastconv.notices import notify
from tvm_fastconv.topi.conv2d import Conv2dParams, conv2d, pack_weight
from tvm_fastconv.topi.depthwise_conv2d import depthwise_conv2d, kernel_major, pack_depthwise_weight
from tvm_fastconv.topi.fixed_stencil_conv2d import fixed_stencils
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.tile import TileKnobs
from tvm_fastconv.topi.schedules.window import WindowKnobs

from .chain_costs import fused_plan, may_multiply_out, reconstructed_cycles, unfused_cycles, written_out
from .conv_call import layer_report
from .graph import CallRewriter, along_channel, keep_name, rewrite_calls
from .layer_findings import layer_findings, note_layer
from .operator_call import operator_call
from .separable_chains import Chain, Stage, reconstructed, separable_chains

MIN_GAIN = 1.03
"""By which a fused chain must be faster by estimate; less is within the estimate's error."""


DENSE = "dense(reconstructed)"


@tvm.transform.module_pass(opt_level=0, name="DispatchSeparable")
class DispatchSeparable:
    """Recognise chains of separable convolutions and choose how they run.

    Parameters
    ----------
    target : Target
    methods : mapping, optional
        Layer name to what the user asked for: chains with a ``Dense`` layer are none, and those of a layer that was
        asked for by another name are not multiplied out.
    """

    def __init__(self, target: tvm.target.Target, methods: Mapping[str, Method] | None = None) -> None:
        self.machine, self.methods = Machine.of(target), methods or {}
        self.slower: dict[str, float] = {}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        self.slower = {}
        apart = [name for name, method in self.methods.items() if isinstance(method, Dense)]
        actions: dict[relax.Var, _Action] = {}
        findings: dict[str, dict[str, str]] = {}
        for func in [func for func in mod.functions.values() if isinstance(func, relax.Function)]:
            for number, chain in enumerate(separable_chains(func, apart)):
                self._choose(chain, str(number), actions, findings)
        # A layer that was approximated keeps the method that was asked for.
        known = layer_findings(mod)
        for name in findings:
            findings[name]["method"] = known.get(name, {}).get("method", findings[name]["method"])

        def rule(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
            action = actions.get(rewriter.binding)
            return None if action is None else action(rewriter, call)

        if self.slower:
            layers = ", ".join(f"{name} ({times:.1f} times)" for name, times in self.slower.items())
            notify(f"as asked for, these layers take longer by estimate than dense ones would: {layers}")
        return note_layer(rewrite_calls(mod, {"nn.conv2d": rule}), findings)

    def _choose(
        self,
        chain: Chain,
        number: str,
        actions: dict[relax.Var, _Action],
        findings: dict[str, dict[str, str]],
    ) -> None:
        costs = {"unfused": unfused_cycles(chain, self.machine)}
        plan = fused_plan(chain, self.machine)
        if plan is not None:
            costs["fused"] = plan.cycles
        dense = reconstructed(chain) if may_multiply_out(chain) else None
        if dense is not None:
            costs[DENSE] = reconstructed_cycles(chain, dense[0], dense[2], self.machine)
        possible = costs | {"fused": costs["fused"] * MIN_GAIN} if plan is not None else costs
        if chain.last.name in self.methods:
            possible = {name: cost for name, cost in possible.items() if name != DENSE}
        way = min(possible, key=possible.__getitem__)
        if costs.get(DENSE, float("inf")) < costs[way]:
            self.slower[chain.last.name] = costs[way] / costs[DENSE]
        reason = _reason(chain, way, costs)
        for stage in chain.stages:
            findings[stage.name] = {"method": chain.method, "reason": reason}
        if way == "fused" and plan is not None:
            fused = _Reordered if chain.multiplies else _Fused
            for stage, knobs in zip(chain.stages, plan.knobs, strict=True):
                actions[stage.var] = fused(chain, number, stage, knobs)
        elif way == DENSE and dense is not None:
            actions[chain.last.var] = _Reconstructed(chain, *dense)


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
    knobs: TileKnobs | WindowKnobs

    def __call__(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr:
        data, weight, knobs = call.args[0], self.stage.weight, self.knobs
        if isinstance(knobs, WindowKnobs):
            packed = relax.const(pack_depthwise_weight(weight))
            return self._operator(rewriter, call, depthwise_conv2d, [data, packed])
        return self._operator(rewriter, call, conv2d, [data, relax.const(pack_weight(weight, knobs.panel))])

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
            op=compute.__name__,
            knobs=self.knobs.to_json(),
            report=layer_report(self.chain.method, call, self.stage.weight) | {"op": self.chain.op},
            chain=self.number,
            params=self.stage.params,
            tile=self.knobs,
            **kwargs,
        )


@dataclass(frozen=True)
class _Reordered(_Fused):
    """The same where a depthwise stage has several kernels: all channels of the first one, then of the next."""

    def __call__(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr:
        first, stage, knobs = self.chain.stages[0], self.stage, self.knobs
        if isinstance(knobs, WindowKnobs):
            kernels = written_out(stage)
            if kernels is not None:
                return self._operator(rewriter, call, fixed_stencils, [call.args[0]], kernels=kernels)
            packed = relax.const(pack_depthwise_weight(kernel_major(stage.weight, first.channels, axis=0)))
            return self._operator(rewriter, call, depthwise_conv2d, [call.args[0], packed], kernel_major=True)
        packed = relax.const(pack_weight(kernel_major(stage.weight, first.channels, axis=1), knobs.panel))
        sums = self._operator(rewriter, call, conv2d, [rewriter.visit_expr(first.var), packed])
        if first.bias is None:
            return sums
        bias = stage.weight[:, :, 0, 0].astype(np.float64) @ first.bias
        return relax.op.add(rewriter.builder_.emit(sums), along_channel(bias.astype(np.float32), 4, 3))


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
