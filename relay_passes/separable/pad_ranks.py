"""Ranks that fill no vectors → the next that do: chains of convolutions get inner channels that are always 0.

A chain of rank 39 took three times as long as one of rank 40, since every vector's tail had to be told apart. Only
chains with nothing but convolutions and biases inside are changed, which the added channels pass through as zeros.
"""

from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.topi.machine import Machine

from ..graph.layer_names import with_layer_name
from ..graph.rewrite import CallRewriter, along_channel, rewrite_calls
from .separable_chains import Chain, Stage, separable_chains

METHODS = ("cp", "tucker", "spatial")
SMALL = 4
"""Ranks up to this one stay: twice the channels would cost more than the tails."""


@tvm.transform.module_pass(opt_level=0, name="PadRanks")
class PadRanks:
    """Round the inner channels of linear chains up to whole or half vectors.

    Parameters
    ----------
    machine : Machine
    """

    def __init__(self, machine: Machine) -> None:
        self.multiple = min(8, machine.lanes)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``, in NHWC."""
        functions = [func for func in mod.functions.values() if isinstance(func, relax.Function)]
        chains = [chain for func in functions for chain in separable_chains(func)]
        ragged = {chain.last.var: chain for chain in chains if self._is_ragged(chain)}

        def rule(rewriter: CallRewriter, _call: relax.Call) -> relax.Expr | None:
            chain = ragged.get(rewriter.binding)
            return None if chain is None else _rounded(rewriter, chain, self._round)

        return rewrite_calls(mod, {"nn.conv2d": rule})

    def _is_ragged(self, chain: Chain) -> bool:
        first, *middle, last = chain.stages
        # What is in groups can only have more channels where those around it have.
        free = first.params.groups == last.params.groups == 1 and all(
            stage.params.groups == 1 or stage.params.groups == stage.channels == stage.params.out_channels
            for stage in middle
        )
        inner = [stage.params.out_channels for stage in chain.stages[:-1]]
        return chain.method in METHODS and free and any(self._round(n) != n for n in inner)

    def _round(self, channels: int) -> int:
        return channels if channels <= SMALL else -(-channels // self.multiple) * self.multiple


def _rounded(rewriter: CallRewriter, chain: Chain, round_up: Callable[[int], int]) -> relax.Expr:
    """The whole chain again, from what its first stage reads."""
    data = rewriter.visit_expr(chain.stages[0].call.args[0])
    inputs = chain.stages[0].channels
    for stage in chain.stages[:-1]:
        outputs = round_up(stage.params.out_channels)
        data = rewriter.builder_.emit(_convolution(data, stage, inputs, outputs))
        if stage.bias is not None:
            bias = np.pad(stage.bias, (0, outputs - len(stage.bias))).astype(np.float32)
            data = rewriter.builder_.emit(relax.op.add(data, along_channel(bias, 4, 3)))
        inputs = outputs
    return _convolution(data, chain.last, inputs, chain.last.params.out_channels)


def _convolution(data: relax.Expr, stage: Stage, inputs: int, outputs: int) -> relax.Call:
    """``stage`` with zeros for the channels that are new."""
    weight, attrs = stage.weight, stage.call.attrs
    per_group = 1 if stage.depthwise else inputs
    more = ((0, outputs - len(weight)), (0, per_group - weight.shape[1]), (0, 0), (0, 0))
    kernel = np.ascontiguousarray(np.pad(weight, more).transpose(0, 2, 3, 1))
    groups = outputs if stage.depthwise else 1
    call = relax.op.nn.conv2d(
        data, relax.const(kernel), attrs.strides, attrs.padding, attrs.dilation, groups, "NHWC", "OHWI"
    )
    return with_layer_name(call, stage.name) if stage.name else call
