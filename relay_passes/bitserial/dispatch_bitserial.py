"""Convolutions and linear layers whose operands both have few levels → popcounts of packed bits, exactly.

A layer qualifies when its input is a few-level value (`activation_levels`) and its weights lie on a grid
(`weight_levels`); with many levels, dot products of bytes may be faster. What decides the input's bits is packed by
`bitpack`; where that is another bitserial layer, whose floats nobody else reads, the layer compares its integer sums
with a threshold per channel and writes bits itself. A depthwise layer may be faster in floats when floats are wanted:
it then waits for such a decision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.configs import Bitserial, Dense, Lookup, Method
from tvm_fastconv.topi.bit_max_pool2d import BitPoolProblem, bit_max_pool2d
from tvm_fastconv.topi.bitpack import BitpackProblem, Grid, bitpack, flip_words, threshold_rows
from tvm_fastconv.topi.bits import WORD_BITS
from tvm_fastconv.topi.planner import Planner

from ..graph.conv_call import extent, pooling_of
from ..graph.layer_names import layer_name
from ..graph.layer_notes import LayerNotes
from ..graph.near_miss import NearMiss
from ..graph.operator_call import OPAQUE, operator_call
from ..graph.rewrite import CallRewriter, op_name, rewrite_calls
from .bitserial_layers import BitserialLayer, bitserial_layer
from .decisions import Decision, trace_back
from .few_level_calls import as_plane, int8_layer, pack_planar, scaled_floats, stands_for_levels
from .few_level_costs import fastest, obstacle_to_bits
from .few_level_layers import FewLevelLayer, few_level_layer, obstacle_to_levels, transposed_on_bits


@tvm.transform.module_pass(opt_level=0, name="DispatchBitserial")
class DispatchBitserial:
    """Swap few-level layers for bitserial operators.

    Parameters
    ----------
    planner : Planner
    methods : mapping, optional
        Layer name to what the user asked for: ``Dense`` and ``Lookup`` layers stay, ``Bitserial`` ones need not be
        faster.

    Raises
    ------
    MethodError
        A layer asked for cannot run on bits; the message names it and says why.
    """

    def __init__(self, planner: Planner, methods: Mapping[str, Method] | None = None) -> None:
        self.planner, self.methods = planner, methods or {}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        layers = _Bitserial(self.planner, self.methods)
        rules = {
            "nn.conv2d": layers.layer,
            "matmul": layers.layer,
            "nn.conv2d_transpose": layers.transposed,
        }
        return layers.notes.written_to(rewrite_calls(mod, rules))


class _Bitserial:
    """Rewrites the layers of one module; remembers what is packed already, and which sums a decision may join."""

    def __init__(self, planner: Planner, methods: Mapping[str, Method]) -> None:
        self.planner, self.methods = planner, methods
        self.notes = LayerNotes("run on bits")
        self.sums: dict[relax.Var, BitserialLayer] = {}
        self.in_floats: dict[relax.Expr, FewLevelLayer] = {}
        self.packed: dict[tuple[relax.Expr, int], relax.Expr] = {}

    def layer(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """Rule for ``nn.conv2d`` and ``matmul``."""
        name = layer_name(call) or ""
        method = self.methods.get(name)
        found = None if isinstance(method, Dense | Lookup) else few_level_layer(rewriter, call)
        asked = isinstance(method, Bitserial)
        if asked and (obstacle := self._obstacle(call, found)) is not None:
            self.notes.refuse(call, obstacle)
            return None
        if isinstance(found, NearMiss):
            self._stays_dense(name, found)
        if not isinstance(found, FewLevelLayer):
            return None
        way, reason = fastest(found, self.planner)
        if asked:
            way = "bits"
        if way == "dense":
            self.notes.note(name, method="bitserial", reason=reason)
            if found.is_bitserial_depthwise and rewriter.binding is not None:
                self.in_floats[rewriter.binding] = found
            return None
        if way == "int8":
            return int8_layer(rewriter, found, reason, self.planner)
        layer = bitserial_layer(found, self._words(rewriter, found), reason, self.planner)
        total = layer.totals(rewriter)
        self.sums[total] = layer
        return scaled_floats(rewriter, call, total, found.scale)

    def transposed(self, rewriter: CallRewriter, call: relax.Call) -> None:
        """Rule for ``nn.conv2d_transpose``: no operator on bits; refused if asked for, and binary ones say so."""
        name, near_miss = layer_name(call) or "", transposed_on_bits(rewriter, call)
        if isinstance(self.methods.get(name), Bitserial):
            self.notes.refuse(call, "transposed convolutions do not run on bits")
        elif near_miss is not None:
            self._stays_dense(name, near_miss)

    def _stays_dense(self, name: str, near_miss: NearMiss) -> None:
        self.notes.note(name, method="dense", reason=f"dense: {near_miss.reason}")

    def _obstacle(self, call: relax.Call, found: FewLevelLayer | NearMiss | None) -> str | None:
        if isinstance(found, FewLevelLayer):
            return obstacle_to_bits(found, self.planner.machine)
        return obstacle_to_levels(call) if found is None else found.reason

    def _words(self, rewriter: CallRewriter, layer: FewLevelLayer) -> relax.Expr:
        """The packed form of the layer's input, made once for each way of grouping its channels."""
        source, how, groups = layer.activation.source, layer.activation.how, layer.packed_groups
        key = (layer.data, groups)
        if key not in self.packed:
            self.packed[key] = (
                self._pack_levels(rewriter, source, how, groups)
                if isinstance(how, Grid)
                else self._pack_bits(rewriter, source, how, groups)
            )
            stands_for_levels(rewriter, self.packed[key], layer, layer.activation.digits)
        return self.packed[key]

    def _pack_levels(self, rewriter: CallRewriter, source: relax.Expr, grid: Grid, groups: int) -> relax.Expr:
        limit = relax.const(np.zeros(WORD_BITS, np.int32))
        return self._bitpack(rewriter, [as_plane(rewriter, source), limit], groups, grid)

    def _pack_bits(
        self, rewriter: CallRewriter, source: relax.Expr, decision: Decision, groups: int
    ) -> relax.Expr:
        if source.ty.dtype == "bool":
            source = rewriter.builder_.emit(relax.op.astype(source, "float32"))
        source, decision = trace_back(rewriter, source, decision)
        channels = int(source.ty.shape[-1])
        for join in (self._decided_by_sums, self._decided_by_pool):
            made = join(rewriter, source, decision, channels, groups)
            if made is not None:
                return made
        thresholds = decision.thresholds(channels)
        constants = [relax.const(threshold_rows(thresholds.at, groups))]
        if thresholds.flip.any():
            constants.append(relax.const(flip_words(thresholds.flip, groups)))
        planar = pack_planar(rewriter, source, constants, groups, self.planner)
        if planar is not None:
            return planar
        return self._bitpack(rewriter, [as_plane(rewriter, source), *constants], groups)

    def _bitpack(
        self, rewriter: CallRewriter, args: list[relax.Expr], groups: int, grid: Grid | None = None
    ) -> relax.Expr:
        batch, height, width, channels = (extent(n) for n in args[0].ty.shape)
        problem = BitpackProblem(
            batch=batch, height=height, width=width, channels=channels, groups=groups,
            digits=grid.digits if grid else 0, flips=len(args) > 2,
        )  # fmt: skip
        plan = self.planner.planned("bitpack", problem)
        call = operator_call(
            rewriter,
            None,
            bitpack,
            args,
            plan=plan,
            pattern=OPAQUE,
            groups=groups,
            grid=grid,
            tile=plan.knobs,
        )
        return rewriter.builder_.emit(call)

    def _decided_by_sums(
        self, rewriter: CallRewriter, source: relax.Expr, decision: Decision, channels: int, groups: int
    ) -> relax.Expr | None:
        """Bits about the sums of a bitserial layer whose floats nobody reads: packed before they are stored."""
        if groups > 1 and channels // groups % WORD_BITS:
            return None
        if (waiting := self.in_floats.get(source)) is not None and rewriter.uses[source] <= 1:
            return self._decided_depthwise(rewriter, waiting, decision, channels)
        value, reshaped = rewriter.definition(source), False
        if op_name(value) == "reshape" and rewriter.uses[source] <= 1:
            source, value, reshaped = value.args[0], rewriter.definition(value.args[0]), True
        if op_name(value) == "astype" and rewriter.uses[source] <= 1:
            source = value.args[0]
        sums = self.sums.get(source) if isinstance(source, relax.Var) else None
        # Only a linear layer's own reshape keeps channels apart.
        if sums is None or (reshaped and op_name(sums.layer.call) != "matmul"):
            return None
        return _decisions(rewriter, sums, decision, channels)

    def _decided_depthwise(
        self, rewriter: CallRewriter, layer: FewLevelLayer, decision: Decision, channels: int
    ) -> relax.Expr | None:
        """Bits about a layer that is faster in floats as long as floats are wanted."""
        self.notes.take_back(layer_name(layer.call) or "")
        reason = "1-bit activations, 1 weight plane, one channel per group"
        made = bitserial_layer(layer, self._words(rewriter, layer), reason, self.planner)
        return _decisions(rewriter, made, decision.scaled(layer.scale), channels)

    def _decided_by_pool(
        self, rewriter: CallRewriter, source: relax.Expr, decision: Decision, channels: int, groups: int
    ) -> relax.Expr | None:
        """Bits about the largest value of a window: any of the bits about its values."""
        value = rewriter.definition(source)
        if op_name(value) != "nn.max_pool2d" or rewriter.uses[source] > 1:
            return None
        params = pooling_of(value)
        if params is None:
            return None
        flip = np.broadcast_to(decision.flip, channels)
        plain = dataclasses.replace(decision, flip=np.zeros(1, bool))
        args = [self._pack_bits(rewriter, value.args[0], plain, groups)]
        if flip.any():
            args.append(relax.const(flip_words(flip, groups)))
        batch, height, width, words = (extent(n) for n in args[0].ty.shape)
        problem = BitPoolProblem(
            batch=batch, in_height=height, in_width=width, words=words, window=params, flips=len(args) > 1
        )
        plan = self.planner.planned("bit_max_pool2d", problem)
        call = operator_call(rewriter, value, bit_max_pool2d, args, plan=plan, pattern=OPAQUE, params=params)
        return rewriter.builder_.emit(call)


def _decisions(
    rewriter: CallRewriter, sums: BitserialLayer, decision: Decision, channels: int
) -> relax.Expr | None:
    """``decision`` about the integer sums of a layer, moved into it."""
    at, flip = decision.integers(channels)
    # total < at  <=>  −total >= 1 − at: the filters of flipped channels change their signs instead.
    signs = sums.layer.levels.signs ^ flip[:, None, None, None]
    return sums.decisions(rewriter, signs, np.where(flip, 1 - at, at))
