"""Convolutions and linear layers whose operands both have few levels → popcounts of packed bits, exactly.

A layer qualifies when its input is a few-level value (`activation_levels`) and its weights lie on a grid
(`weight_levels`). What decides the input's bits is packed by `bitpack`; where that is another bit-serial layer, whose
floats nobody else reads, the layer compares its integer sums with a threshold per channel and writes bits itself.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx

from tvm_fastconv.configs import Bitserial, Dense, Method
from tvm_fastconv.topi.bit_max_pool2d import bit_max_pool2d
from tvm_fastconv.topi.bitpack import Grid, bitpack, flip_words, threshold_rows
from tvm_fastconv.topi.bits import WORD_BITS
from tvm_fastconv.topi.bitserial_conv2d import (
    BitserialParams,
    bitserial_conv2d,
    bitserial_conv2d_packed,
    border_table,
    pack_signs,
    packed_limits,
)
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.tile import TileProblem, cycles, default_knobs, feasible_knobs

from .activation_levels import ActivationLevels, activation_levels
from .canonicalize_padding import constant_border
from .conv_call import conv2d_of, direct_problem, extent, layer_report, pooling_of
from .decisions import Decision, trace_back
from .graph import CallRewriter, along_channel, constant_array, op_name, rewrite_calls
from .layer_findings import note_layer
from .layer_names import layer_name
from .operator_call import OPAQUE, operator_call
from .weight_levels import WeightLevels, weight_levels


@tvm.transform.module_pass(opt_level=0, name="DispatchBitserial")
class DispatchBitserial:
    """Swap few-bit layers for bit-serial operators.

    Parameters
    ----------
    target : Target
    methods : mapping, optional
        Layer name to what the user asked for: ``Dense`` layers stay, ``Bitserial`` ones need not be faster.
    """

    def __init__(self, target: tvm.target.Target, methods: Mapping[str, Method] | None = None) -> None:
        self.machine, self.methods = Machine.of(target), methods or {}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        layers = _Bitserial(self.machine, self.methods)
        mod = rewrite_calls(mod, {"nn.conv2d": layers.conv2d, "matmul": layers.matmul})
        for notice, names in sorted(layers.notices.items()):
            warnings.warn(f"{notice} (in {', '.join(names)})", stacklevel=2)
        return note_layer(mod, layers.findings)


@dataclass(frozen=True)
class _Sums:
    """A bit-serial layer in the graph, so that a decision about its sums can move into it."""

    source: relax.Call
    words: relax.Expr
    levels: WeightLevels
    params: BitserialParams
    report: dict[str, Any]


class _Bitserial:
    """Rewrites the layers of one module; remembers what is packed already, and which sums a decision may join."""

    def __init__(self, machine: Machine, methods: Mapping[str, Method]) -> None:
        self.machine, self.methods = machine, methods
        self.findings: dict[str, dict[str, str]] = {}
        self.notices: dict[str, list[str]] = {}
        self.sums: dict[relax.Var, _Sums] = {}
        self.packed: dict[tuple[relax.Expr, int], relax.Expr] = {}

    def conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """Rule for ``nn.conv2d``."""
        found = conv2d_of(call)
        return None if found is None else self._layer(rewriter, call, *found)

    def matmul(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """Rule for ``matmul``: a 1×1 convolution."""
        weight = constant_array(call.args[1])
        shape = list(call.args[0].ty.shape)
        if weight is None or weight.ndim != 2 or len(shape) != 2 or weight.dtype != np.float32:
            return None
        params = Conv2dParams(kernel=(1, 1), out_channels=weight.shape[1])
        return self._layer(rewriter, call, params, np.ascontiguousarray(weight.T)[:, :, None, None])

    def _layer(
        self, rewriter: CallRewriter, call: relax.Call, conv: Conv2dParams, weight: np.ndarray
    ) -> relax.Expr | None:
        data, border = call.args[0], None
        if conv.padding == (0, 0, 0, 0) and (bordered := constant_border(rewriter, data, "NHWC")) is not None:
            data, border, padding = bordered
            conv = dataclasses.replace(conv, padding=padding)
        activation = activation_levels(rewriter, data)
        if activation is None:
            return None
        name = layer_name(call) or ""
        if isinstance(self.methods.get(name), Dense):
            return None
        levels = weight_levels(weight)
        if isinstance(activation, str) or isinstance(levels, str):
            refusal = activation if isinstance(activation, str) else f"dense: {levels}"
            self.findings[name] = {"method": "dense", "reason": refusal}
            return None
        if activation.notice:
            self.notices.setdefault(activation.notice, []).append(name)
        padding_value = (border or 0.0) / activation.scale
        if padding_value != round(padding_value):
            self.findings[name] = {
                "method": "dense",
                "reason": f"dense: padding with {border:g} is on no level",
            }
            return None
        params = BitserialParams(
            conv=conv,
            padding_value=round(padding_value),
            channels=weight.shape[1] * conv.groups,
            activation_bits=activation.digits,
            step=activation.step,
            offset=activation.offset,
            planes=levels.planes,
        )
        problem = _problem(call, params)
        reason = self._estimate(call, params, problem, weight)
        forced = isinstance(self.methods.get(name), Bitserial) and any(feasible_knobs(problem, self.machine))
        if reason.startswith("dense") and not forced:
            self.findings[name] = {"method": "bitserial", "reason": reason}
            return None
        words = self._words(rewriter, activation, data, conv.groups)
        report = _report(call, weight, params, reason)
        sums = _Sums(call, words, levels, params, report)
        return self._emit_floats(rewriter, sums, levels.scale * activation.scale, problem)

    def _estimate(
        self, call: relax.Call, params: BitserialParams, problem: TileProblem, weight: np.ndarray
    ) -> str:
        """Which is faster, in words; the text begins with ``dense`` if dense is."""
        if not any(feasible_knobs(problem, self.machine)):
            return f"dense: groups of {problem.out_channels} output channels do not fill vectors"
        bits = cycles(problem, default_knobs(problem, self.machine), self.machine)
        bits *= self.machine.popcount_cost
        conv = dataclasses.replace(params.conv, groups=1) if op_name(call) == "matmul" else params.conv
        floats_problem = _float_problem(call, conv, weight)
        floats = cycles(floats_problem, default_knobs(floats_problem, self.machine), self.machine)
        digits = f"{params.activation_bits}-bit activations, {len(params.planes)} weight planes"
        if bits >= floats:
            return f"dense: {digits} would take {bits / floats:.1f} times as long by estimate"
        return f"{digits}: {floats / bits:.1f} times faster than dense by estimate"

    def _emit_floats(
        self, rewriter: CallRewriter, sums: _Sums, scale: np.ndarray, problem: TileProblem
    ) -> relax.Expr:
        """The layer as int32 sums, converted and scaled by standard operators that fuse behind it."""
        tile = default_knobs(problem, self.machine)
        params = sums.params
        height, width = (int(size) for size in list(sums.words.ty.shape)[1:3])
        call = operator_call(
            rewriter,
            sums.source,
            bitserial_conv2d,
            [
                sums.words,
                relax.const(pack_signs(sums.levels.signs, tile.panel)),
                relax.const(border_table(sums.levels.signs, params, height, width)),
            ],
            op="bitserial_conv2d",
            knobs=tile.to_json(),
            report=sums.report,
            params=params,
            tile=tile,
            bytewise=not self.machine.counts_words,
        )
        total = rewriter.builder_.emit(call)
        self.sums[total] = sums
        value = relax.op.astype(total, "float32")
        if op_name(sums.source) == "matmul":
            value = relax.op.reshape(rewriter.builder_.emit(value), sums.source.ty.shape)
        if (scale == 1).all():
            return value
        rank = len(sums.source.ty.shape)
        factor = along_channel(scale.astype(np.float32), rank, rank - 1)
        return relax.op.multiply(rewriter.builder_.emit(value), factor)

    def _words(
        self, rewriter: CallRewriter, activation: ActivationLevels, data: relax.Expr, groups: int
    ) -> relax.Expr:
        """The packed form of ``data``, made once for each way of grouping its channels."""
        if (data, groups) not in self.packed:
            if isinstance(activation.how, Grid):
                words = self._pack_levels(rewriter, activation.source, activation.how, groups)
            else:
                words = self._pack_bits(rewriter, activation.source, activation.how, groups)
            self.packed[data, groups] = words
        return self.packed[data, groups]

    def _pack_levels(self, rewriter: CallRewriter, source: relax.Expr, grid: Grid, groups: int) -> relax.Expr:
        limit = relax.const(np.zeros(WORD_BITS, np.int32))
        return self._bitpack(rewriter, [_plane(rewriter, source), limit], groups=groups, grid=grid)

    def _pack_bits(
        self, rewriter: CallRewriter, source: relax.Expr, decision: Decision, groups: int
    ) -> relax.Expr:
        source, decision = trace_back(rewriter, source, decision)
        channels = int(source.ty.shape[-1])
        for join in (self._decided_by_sums, self._decided_by_pool):
            made = join(rewriter, source, decision, channels, groups)
            if made is not None:
                return made
        thresholds = decision.thresholds(channels)
        args = [_plane(rewriter, source), relax.const(threshold_rows(thresholds.at, groups))]
        if thresholds.flip.any():
            args.append(relax.const(flip_words(thresholds.flip, groups)))
        return self._bitpack(rewriter, args, groups=groups)

    def _bitpack(self, rewriter: CallRewriter, args: list[relax.Expr], **how: Any) -> relax.Expr:
        source = relax.op.sign(args[0])
        call = operator_call(rewriter, source, bitpack, args, op="bitpack", knobs="{}", pattern=OPAQUE, **how)
        return rewriter.builder_.emit(call)

    def _decided_by_sums(
        self, rewriter: CallRewriter, source: relax.Expr, decision: Decision, channels: int, groups: int
    ) -> relax.Expr | None:
        """Bits about the sums of a bit-serial layer whose floats nobody reads: packed before they are stored."""
        value = rewriter.definition(source)
        if op_name(value) == "reshape" and rewriter.uses[source] <= 1:
            source, value = value.args[0], rewriter.definition(value.args[0])
        if op_name(value) == "astype" and rewriter.uses[source] <= 1:
            source = value.args[0]
        sums = self.sums.get(source) if isinstance(source, relax.Var) else None
        if sums is None or (groups > 1 and channels // groups % WORD_BITS):
            return None
        at, flip = decision.integers(channels)
        # total < at  <=>  −total >= 1 − at: the filters of flipped channels change their signs instead.
        signs = sums.levels.signs ^ flip[:, None, None, None]
        at = np.where(flip, 1 - at, at)
        problem = dataclasses.replace(_problem(sums.source, sums.params), panel_multiple=WORD_BITS)
        tile = default_knobs(problem, self.machine)
        height, width = (int(size) for size in list(sums.words.ty.shape)[1:3])
        table = border_table(signs, sums.params, height, width)
        call = operator_call(
            rewriter,
            sums.source,
            bitserial_conv2d_packed,
            [
                sums.words,
                relax.const(pack_signs(signs, tile.panel)),
                relax.const(packed_limits(table, sums.params.step, at, tile.panel)),
            ],
            op="bitserial_conv2d",
            knobs=tile.to_json(),
            report={**sums.report, "reason": f"{sums.report['reason']}; writes bits"},
            pattern=OPAQUE,
            params=sums.params,
            tile=tile,
            bytewise=not self.machine.counts_words,
        )
        return rewriter.builder_.emit(call)

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
        call = operator_call(
            rewriter,
            value,
            bit_max_pool2d,
            args,
            op="bit_max_pool2d",
            knobs="{}",
            pattern=OPAQUE,
            params=params,
        )
        return rewriter.builder_.emit(call)


def _plane(rewriter: CallRewriter, value: relax.Expr) -> relax.Expr:
    """``value`` in NHWC: the rows of a matrix are the pixels of one row, or planes of one pixel if unknown."""
    shape = list(value.ty.shape)
    if len(shape) == 4:
        return value
    rows, columns = shape
    known = isinstance(rows, tirx.IntImm)
    return rewriter.builder_.emit(
        relax.op.reshape(value, [1, 1, rows, columns] if known else [rows, 1, 1, columns])
    )


def _problem(call: relax.Call, params: BitserialParams) -> TileProblem:
    """The layer as the register tile sees it: one step of the reduction is one word."""
    conv, taps = params.conv, params.conv.kernel[0] * params.conv.kernel[1]
    batch, rows, columns = _output_plane(call)
    width = conv.window_size(1, columns)[1]
    return TileProblem(
        batch=batch,
        height=rows,
        width=columns,
        out_channels=conv.out_channels // conv.groups,
        groups=conv.groups,
        reduction=taps * params.words,
        strip_row_bytes=4 * conv.stride[0] * width * params.words * params.activation_bits * conv.groups,
        weight_bytes=4 * taps * params.words * len(params.planes) * conv.out_channels,
        pixel_planes=params.activation_bits,
        vector_planes=len(params.planes),
    )


def _output_plane(call: relax.Call) -> tuple[int, int, int]:
    """Batch, rows, columns of the layer as a convolution."""
    shape = list(call.ty.shape)
    if len(shape) == 4:
        return extent(shape[0]), int(shape[1]), int(shape[2])
    return (1, 1, int(shape[0])) if isinstance(shape[0], tirx.IntImm) else (1, 1, 1)


def _float_problem(call: relax.Call, conv: Conv2dParams, weight: np.ndarray) -> TileProblem:
    if op_name(call) == "nn.conv2d":
        return direct_problem(call, conv, weight)
    batch, rows, columns = _output_plane(call)
    return TileProblem(
        batch=batch, height=rows, width=columns, out_channels=weight.shape[0], groups=1,
        reduction=weight.shape[1], strip_row_bytes=4 * weight.shape[1], weight_bytes=weight.nbytes,
    )  # fmt: skip


def _report(call: relax.Call, weight: np.ndarray, params: BitserialParams, reason: str) -> dict[str, Any]:
    report = layer_report("bitserial", call, weight, reason)
    planes = len(params.planes)
    taps = params.conv.kernel[0] * params.conv.kernel[1]
    return report | {
        "operations": report["dense_macs"] * planes * params.activation_bits,
        "weight_bytes": 4 * planes * taps * params.words * params.conv.out_channels,
    }
