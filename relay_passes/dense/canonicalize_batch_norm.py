"""Batch norm in inference is a scale and a shift per channel; both move into the convolution beside it.

Three rules, in program order:

- ``batch_norm(x)`` with constant statistics → ``x · scale + shift``;
- ``conv(x, w) · scale`` → ``conv(x, w · scale)``, and through a bias: ``(conv + b) · scale`` → ``conv' + b · scale``;
- ``(y + a) + b`` with constants → ``y + (a + b)``.

A batch norm in front of a convolution that pads stays where it is: its shift is not what the border is padded with.
In front of one that does not pad, ``conv(x · s + t, w)`` → ``conv(x, w · s) + sum(w · t)``.
"""

import numpy as np
import tvm
from tvm import relax

from ..graph.rewrite import (
    CallRewriter,
    along_channel,
    channel_vector,
    constant_array,
    keep_name,
    op_name,
    rewrite_calls,
)

_LINEAR = {"nn.conv2d": (1, 0), "nn.conv2d_transpose": (1, 1), "matmul": (-1, -1)}
"""Operator → (channel axis of its result, output-channel axis of its weight)."""


@tvm.transform.module_pass(opt_level=0, name="CanonicalizeBatchNorm")
class CanonicalizeBatchNorm:
    """Fold batch norms into neighbouring convolutions and linear layers; see the module's text."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        mod = rewrite_calls(mod, {"nn.batch_norm": _to_scale_and_shift})
        # The tuples that held the norms' results would count as readers.
        mod = relax.transform.DeadCodeElimination()(relax.transform.CanonicalizeBindings()(mod))
        return rewrite_calls(
            mod, {"multiply": _fold_scale, "add": _merge_shifts, "nn.conv2d": _fold_preceding}
        )


def _to_scale_and_shift(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    gamma, beta, mean, variance = (constant_array(arg) for arg in call.args[1:5])
    if gamma is None or beta is None or mean is None or variance is None or call.attrs.training:
        return None
    rank, axis = len(call.args[0].ty.shape), int(call.attrs.axis)
    scale = 1.0 / np.sqrt(variance.astype(np.float64) + float(call.attrs.epsilon))
    scale = scale * gamma if call.attrs.scale else scale
    shift = -mean * scale + (beta if call.attrs.center else 0.0)
    scaled = rewriter.emit(
        relax.op.multiply(call.args[0], along_channel(scale.astype(mean.dtype), rank, axis)), call
    )
    shifted = rewriter.emit(relax.op.add(scaled, along_channel(shift.astype(mean.dtype), rank, axis)), call)
    return relax.Tuple([shifted, call.args[3], call.args[4]])


def _split_constant(call: relax.Call) -> tuple[relax.Expr, np.ndarray] | None:
    """(computed operand, constant operand) of a commutative binary call."""
    for value, other in (call.args, reversed(call.args)):
        array = constant_array(other)
        if array is not None and constant_array(value) is None:
            return value, array
    return None


def _channels(call: relax.Expr, array: np.ndarray) -> np.ndarray | None:
    """``array`` as one value per output channel of the linear operator ``call``."""
    rank = len(call.ty.shape)
    axis = _LINEAR[op_name(call) or ""][0] % rank
    vector, extent = channel_vector(array, rank, axis), call.ty.shape[axis]
    if vector is None or not isinstance(extent, tvm.tirx.IntImm):
        return None
    return np.broadcast_to(vector, (int(extent),))


def _fold_scale(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    operands = _split_constant(call)
    if operands is None or rewriter.uses[operands[0]] > 1:
        return None
    value, scale = rewriter.definition(operands[0]), operands[1]
    if op_name(value) in _LINEAR:
        return _scaled(rewriter, value, scale)
    inner = _split_constant(value) if op_name(value) == "add" else None
    if inner is None or rewriter.uses[inner[0]] > 1:
        return None
    linear = rewriter.definition(inner[0])
    scaled = _scaled(rewriter, linear, scale) if op_name(linear) in _LINEAR else None
    if scaled is None:
        return None
    return keep_name(relax.op.add(rewriter.emit(scaled, linear), relax.const(inner[1] * scale)), value)


def _scaled(rewriter: CallRewriter, linear: relax.Call, scale: np.ndarray) -> relax.Call | None:
    """``linear · scale`` as one call with scaled weights, or ``None``."""
    weight, channels = constant_array(linear.args[1]), _channels(linear, scale)
    if (
        weight is None
        or channels is None
        or (op_name(linear) == "nn.conv2d_transpose" and linear.attrs.groups > 1)
    ):
        return None
    axis = _LINEAR[op_name(linear) or ""][1]
    shape = [1] * weight.ndim
    shape[axis] = channels.size
    scaled = relax.const((weight * channels.reshape(shape)).astype(weight.dtype))
    return keep_name(relax.Call(linear.op, [linear.args[0], scaled], linear.attrs), linear)


def _merge_shifts(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    outer = _split_constant(call)
    if outer is None or rewriter.uses[outer[0]] > 1:
        return None
    value = rewriter.definition(outer[0])
    if op_name(value) != "add":
        return None
    inner = _split_constant(value)
    if inner is None or inner[1].ndim > len(value.ty.shape):
        return None
    return keep_name(relax.op.add(inner[0], relax.const(inner[1] + outer[1])), value)


def _fold_preceding(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    """Batch norm before a convolution without padding."""
    weight = constant_array(call.args[1])
    affine = _affine(rewriter, call.args[0])
    if weight is None or affine is None or any(map(int, call.attrs.padding)) or call.attrs.groups != 1:
        return None
    source, scale, shift = affine
    scaled = relax.const((weight * scale[None, :, None, None]).astype(weight.dtype))
    bias = np.einsum("oihw,i->o", weight.astype(np.float64), shift).astype(weight.dtype)
    conv = rewriter.emit(relax.Call(call.op, [source, scaled], call.attrs), call)
    return keep_name(relax.op.add(conv, along_channel(bias, 4, 1)), call)


def _affine(rewriter: CallRewriter, data: relax.Expr) -> tuple[relax.Expr, np.ndarray, np.ndarray] | None:
    """``data`` as (x, scale, shift) with one scale and shift per channel, if that is what it is."""
    shift = _read_once(rewriter, data, "add")
    scale = _read_once(rewriter, shift[0], "multiply") if shift else None
    if shift is None or scale is None:
        return None
    vectors = [channel_vector(array, 4, 1) for array in (scale[1], shift[1])]
    channels = int(data.ty.shape[1])
    full = [np.broadcast_to(vector, (channels,)) for vector in vectors if vector is not None]
    return (scale[0], full[0], full[1]) if len(full) == 2 else None


def _read_once(rewriter: CallRewriter, data: relax.Expr, op: str) -> tuple[relax.Expr, np.ndarray] | None:
    """The operands of the ``op`` with a constant that made ``data``, if nobody else reads that."""
    value = rewriter.definition(data)
    return _split_constant(value) if op_name(value) == op and rewriter.uses[data] == 1 else None
