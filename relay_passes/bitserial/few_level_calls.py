"""Pieces of the graph that few-level layers are written in: planes, integer levels, scaled sums, reports."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from tvm_fastconv.topi.bitpack_planar import PlanarProblem, bitpack_planar
from tvm_fastconv.topi.bits import WORD, word_count
from tvm_fastconv.topi.borders import offset_table
from tvm_fastconv.topi.int8_conv2d import int8_conv2d, pack_int8
from tvm_fastconv.topi.operators import marked
from tvm_fastconv.topi.planner import Planner

from ..graph.conv_call import extent, layer_report
from ..graph.operator_call import OPAQUE, known_sizes, operator_call, primfunc_call
from ..graph.rewrite import CallRewriter, along_channel, op_name
from ..graph.source_values import Levels
from .few_level_layers import FewLevelLayer, plane_shape


def as_plane(rewriter: CallRewriter, value: relax.Expr) -> relax.Expr:
    """``value`` in NHWC, see `plane_shape`."""
    if len(value.ty.shape) == 4:
        return value
    return rewriter.builder_.emit(relax.op.reshape(value, plane_shape(value.ty.shape)))


def pack_planar(
    rewriter: CallRewriter, source: relax.Expr, constants: list[relax.Expr], groups: int, planner: Planner
) -> relax.Var | None:
    """Words of what was transposed from NCHW for this alone; ``None`` where it was not, or fills no vector."""
    value = rewriter.definition(source)
    if op_name(value) != "permute_dims" or rewriter.uses[source] > 1:
        return None
    axes = [int(axis) for axis in value.attrs.axes or ()]
    shape = known_sizes(value.args[0], 1)
    if axes != [0, 2, 3, 1] or shape is None or not planner.has("bitpack_planar"):
        return None
    batch, channels, height, width = value.args[0].ty.shape
    problem = PlanarProblem(
        batch=extent(batch), channels=int(channels), height=int(height), width=int(width), groups=groups,
        flips=len(constants) > 1,
    )  # fmt: skip
    plan = planner.plan("bitpack_planar", problem)
    if plan is None:
        return None
    func = bitpack_planar(shape, groups, problem.flips, plan.knobs, planner.machine.kind)
    func = marked(func, plan.op, plan.problem, plan.knobs)
    words = groups * word_count(problem.channels // groups)
    args = [value.args[0], *constants]
    return primfunc_call(rewriter, func, "bitpack", args, [batch, height, width, words], WORD, OPAQUE)


def scaled_floats(
    rewriter: CallRewriter, source: relax.Call, total: relax.Var, scale: np.ndarray
) -> relax.Expr:
    """Integer sums as the floats that ``source`` stood for."""
    value = relax.op.astype(total, "float32")
    if op_name(source) == "matmul":
        value = relax.op.reshape(rewriter.builder_.emit(value), source.ty.shape)
    if (scale == 1).all():
        return value
    rank = len(source.ty.shape)
    factor = along_channel(scale.astype(np.float32), rank, rank - 1)
    return relax.op.multiply(rewriter.builder_.emit(value), factor)


def stands_for_levels(rewriter: CallRewriter, stored: relax.Expr, layer: FewLevelLayer, digits: int) -> None:
    """Note that ``stored`` is the input of ``layer``: its levels, in packed ``digits`` or (0) as numbers."""
    value, activation = rewriter.values.get(layer.data), layer.activation
    if value is not None:
        rewriter.values[stored] = value.in_levels(
            Levels(
                digits=digits,
                groups=layer.packed_groups,
                channels=layer.params.channels,
                step=activation.step,
                offset=activation.offset,
                scale=activation.scale,
            )
        )


def bitserial_report(layer: FewLevelLayer, reason: str) -> dict[str, Any]:
    """What the report says of a layer on bits."""
    params, report = layer.bitserial, layer_report("bitserial", layer.call, layer.weight, reason)
    planes, taps = len(params.bit_planes), params.conv.kernel[0] * params.conv.kernel[1]
    return report | {
        "operations": report["dense_macs"] * planes * params.activation_bits,
        "weight_bytes": 4 * planes * taps * params.words * params.conv.out_channels,
    }


def int8_layer(rewriter: CallRewriter, layer: FewLevelLayer, reason: str, planner: Planner) -> relax.Expr:
    """The layer as dot products of bytes: levels by standard operators, sums, scaled floats."""
    weight, scale = layer.integers
    params, plan = layer.params, planner.planned("int8_conv2d", layer.int8_problem)
    levels = _levels(rewriter, as_plane(rewriter, layer.data), layer)
    stands_for_levels(rewriter, levels, layer, digits=0)
    height, width = (int(size) for size in list(levels.ty.shape)[1:3])
    table = offset_table(weight, params, height, width).astype(np.int32)
    report = layer_report("bitserial", layer.call, layer.weight, reason)
    call = operator_call(
        rewriter,
        layer.call,
        int8_conv2d,
        [levels, relax.const(pack_int8(weight.astype(np.int8), plan.knobs.panel)), relax.const(table)],
        plan=plan,
        report=report | {"weight_bytes": weight.size},
        params=params,
        tile=plan.knobs,
    )
    return scaled_floats(rewriter, layer.call, rewriter.builder_.emit(call), scale)


def _levels(rewriter: CallRewriter, data: relax.Expr, layer: FewLevelLayer) -> relax.Var:
    """The levels q of ``data = scale · (step · q + offset)``, uint8; the values lie on them but for rounding."""
    emit, activation = rewriter.builder_.emit, layer.activation
    gain = relax.const(np.float32(1 / (activation.scale * activation.step)))
    shift = relax.const(np.float32(-activation.offset / activation.step))
    scaled = emit(relax.op.add(emit(relax.op.multiply(data, gain)), shift))
    return emit(relax.op.astype(emit(relax.op.round(scaled)), "uint8"))
