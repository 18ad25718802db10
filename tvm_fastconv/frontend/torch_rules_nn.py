"""Rules for convolutions, matrix products, normalisation and attention."""

import math
from types import SimpleNamespace

import numpy as np
from torch import fx
from tvm import relax

from .torch_rules import Emit, arguments, as_image, constant_like, from_image, node_shape, pair, rule, shape


def _refuse_volumes(node: fx.Node) -> str | None:
    spatial = len(node_shape(node.args[1])) - 2
    return None if spatial <= 2 else f"{spatial}-D convolution: only 1-D and 2-D convolutions are supported"


def _add_bias(result: relax.Var, bias: relax.Expr | None, emit: Emit) -> relax.Var:
    if bias is None:
        return result
    return emit(relax.op.add(result, relax.op.reshape(bias, [1, shape(bias)[0], 1, 1])))


@rule("convolution.default", refuse=_refuse_volumes)
def convolution(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a 1-D (as 2-D of height 1) or 2-D convolution, transposed or not, batched or not."""
    flat = len(shape(op.weight)) == 3
    added = as_image(op, emit, spatial=2 - flat)
    weight = emit(relax.op.expand_dims(op.weight, 2)) if flat else op.weight
    stride, dilation = ([1] * flat + list(values) for values in (op.stride, op.dilation))
    padding, output_padding = ([0] * flat + list(values) for values in (op.padding, op.output_padding))
    if op.transposed:
        result = relax.op.nn.conv2d_transpose(
            op.input, weight, stride, padding, output_padding, dilation, op.groups, "NCHW", "IOHW"
        )
    else:
        result = relax.op.nn.conv2d(op.input, weight, stride, padding, dilation, op.groups, "NCHW", "OIHW")
    return from_image(_add_bias(emit(result), op.bias, emit), added, emit)


@rule("conv1d.padding", "conv2d.padding", keep=True)
def convolution_with_named_padding(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``padding="same"``/``"valid"``; an odd amount pads one more at the end, as PyTorch does."""
    kernel = shape(op.weight)[2:]
    flat = len(kernel) == 1
    spatial = (lambda value: [value] if isinstance(value, int) else list(value)) if flat else pair
    dilation = spatial(op.dilation)
    same = op.padding == "same"
    total = [d * (k - 1) if same else 0 for d, k in zip(dilation, kernel, strict=True)]
    before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    op.stride, op.dilation = spatial(op.stride), dilation
    op.transposed, op.output_padding = False, [0] * len(kernel)
    # convolution() prepends the missing height of a 1-D convolution once; four values say it in full.
    op.padding = [*before, 0, *after] if flat else [*before, *after]
    return convolution(op, emit)


@rule("linear.default", keep=True)
def linear(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``x @ weight.T + bias`` for any rank of ``x``."""
    result = emit(relax.op.matmul(op.input, emit(relax.op.permute_dims(op.weight, [1, 0]))))
    return result if op.bias is None else emit(relax.op.add(result, op.bias))


@rule("matmul.default", keep=True)
def matmul(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import a (broadcasting) matrix product."""
    return emit(relax.op.matmul(op.input, op.other))


def _affine(op: SimpleNamespace, channels: int) -> tuple[relax.Expr, relax.Expr]:
    weight = op.weight if op.weight is not None else relax.const(np.ones(channels, "float32"))
    return weight, op.bias if op.bias is not None else relax.const(np.zeros(channels, "float32"))


@rule("instance_norm.default", keep=True)
def instance_norm(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import instance norm; with running statistics it is a batch norm."""
    sizes = shape(op.input)
    weight, bias = _affine(op, sizes[1])
    if op.use_input_stats:
        axes = list(range(2, len(sizes)))
        return emit(relax.op.nn.instance_norm(op.input, weight, bias, 1, axes, op.eps))
    normalised = relax.op.nn.batch_norm(
        op.input, weight, bias, op.running_mean, op.running_var, 1, op.eps, training=False
    )
    return emit(relax.TupleGetItem(emit(normalised), 0))


@rule("native_group_norm.default")
def group_norm(op: SimpleNamespace, emit: Emit) -> tuple[relax.Var]:
    """Import group norm; only the first of aten's three results exists."""
    sizes = shape(op.input)
    weight, bias = _affine(op, sizes[1])
    axes = list(range(2, len(sizes)))
    return (emit(relax.op.nn.group_norm(op.input, weight, bias, op.group, 1, axes, op.eps)),)


def _refuse_attention(node: fx.Node) -> str | None:
    values = arguments(node)
    return "enable_gqa=True is not supported" if values.get("enable_gqa") else None


@rule("scaled_dot_product_attention.default", refuse=_refuse_attention, keep=True)
def attention(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``softmax(q k^T * scale + mask) v``; a boolean mask keeps where it is true."""
    query, key, mask = op.query, op.key, op.attn_mask
    rank = len(shape(query))
    scale = op.scale if op.scale is not None else 1 / math.sqrt(shape(query)[-1])
    turned = emit(relax.op.permute_dims(key, [*range(rank - 2), rank - 1, rank - 2]))
    scores = emit(relax.op.multiply(relax.op.matmul(query, turned), constant_like(scale, query)))
    if op.is_causal:
        mask = relax.const(np.tri(shape(query)[-2], shape(key)[-2], dtype="bool"))
    if mask is not None and mask.ty.dtype == "bool":
        scores = emit(relax.op.where(mask, scores, constant_like(-math.inf, scores)))
    elif mask is not None:
        scores = emit(relax.op.add(scores, mask))
    return emit(relax.op.matmul(emit(relax.op.nn.softmax(scores, -1)), op.value))
