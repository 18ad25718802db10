"""Rules for pooling. Pools carry their padding for every side and never ``ceil_mode``, so passes see one form only."""

from types import SimpleNamespace

import numpy as np
from torch import fx
from tvm import relax

from .torch_rules import (
    Emit,
    arguments,
    as_image,
    constant_like,
    from_image,
    has_static_image,
    pair,
    rule,
    shape,
    wants_positions,
)


def _windows(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> tuple[int, int]:
    """Return (number of windows, padding at the end) along one axis of a pool with ``ceil_mode``.

    A last window is added where it still starts inside the image or the padding before it.
    """
    reach = dilation * (kernel - 1) + 1
    count = -(-(size + before + after - reach) // stride) + 1
    if (count - 1) * stride >= size + before:
        count -= 1
    return count, max((count - 1) * stride + reach - size - before, after)


def _geometry(op: SimpleNamespace, dilation: list[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return kernel, stride, the padding asked for and the padding needed (each top, left, bottom, right)."""
    kernel = pair(op.kernel_size)
    stride, padding = pair(op.stride) or kernel, pair(op.padding)
    before, after = padding[:2], padding[-2:]
    end = after
    if op.ceil_mode:
        axes = zip(shape(op.input)[2:], kernel, stride, before, after, dilation, strict=True)
        end = [_windows(*axis)[1] for axis in axes]
    return kernel, stride, [*before, *after], [*before, *end]


def _needs_static_if_ceil(node: fx.Node) -> str | None:
    return has_static_image(node) if arguments(node)["ceil_mode"] else None


@rule("max_pool2d.default", refuse=_needs_static_if_ceil, keep=True)
def max_pool2d(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import max pooling of batched or single images."""
    added = as_image(op, emit, spatial=2)
    dilation = pair(op.dilation)
    kernel, stride, _, padding = _geometry(op, dilation)
    return from_image(emit(relax.op.nn.max_pool2d(op.input, kernel, stride, padding, dilation)), added, emit)


@rule(
    "max_pool2d_with_indices.default",
    refuse=lambda node: wants_positions(node) or _needs_static_if_ceil(node),
)
def max_pool2d_with_positions(op: SimpleNamespace, emit: Emit) -> tuple[relax.Var]:
    """Import max pooling asked for positions that nothing uses."""
    return (max_pool2d(op, emit),)


@rule("max_pool1d.default", refuse=_needs_static_if_ceil, keep=True)
def max_pool1d(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import 1-D max pooling as 2-D of height 1."""
    added = as_image(op, emit, spatial=1)
    op.stride = op.stride or op.kernel_size
    for name, neutral in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
        setattr(op, name, [neutral, pair(getattr(op, name))[-1]])
    return from_image(max_pool2d(op, emit), added, emit)


@rule("avg_pool2d.default", refuse=_needs_static_if_ceil)
def avg_pool2d(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import average pooling.

    TVM divides by the kernel's area or by the number of real pixels. Where PyTorch divides by something else
    (``divisor_override``; ``ceil_mode``, whose overhang counts as no padding), a constant corrects the quotient.
    """
    added = as_image(op, emit, spatial=2)
    kernel, stride, asked, needed = _geometry(op, [1, 1])
    overhangs = asked != needed
    wrong_divisor = op.divisor_override or (overhangs and op.count_include_pad and any(asked))
    include = bool(wrong_divisor or (op.count_include_pad and not overhangs))
    pooled = emit(relax.op.nn.avg_pool2d(op.input, kernel, stride, needed, count_include_pad=include))
    if op.divisor_override:
        pooled = emit(
            relax.op.multiply(pooled, constant_like(kernel[0] * kernel[1] / op.divisor_override, pooled))
        )
    elif wrong_divisor:
        correction = _overhang_correction(shape(op.input)[2:], kernel, stride, asked)
        pooled = emit(relax.op.multiply(pooled, correction))
    return from_image(pooled, added, emit)


def _overhang_correction(
    size: list[int], kernel: list[int], stride: list[int], padding: list[int]
) -> relax.Expr:
    """Return kernel area over the pixels each window covers of the image with the padding asked for."""
    covered = []
    for n, k, s, before, after in zip(size, kernel, stride, padding[:2], padding[2:], strict=True):
        starts = [index * s for index in range(_windows(n, k, s, before, after, 1)[0])]
        covered.append([min(start + k, n + before + after) - start for start in starts])
    rows, columns = covered
    return relax.const((kernel[0] * kernel[1] / np.outer(rows, columns)).astype("float32")[None, None])


@rule("adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default", refuse=has_static_image, keep=True)
def adaptive_avg_pool2d(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import adaptive average pooling: nothing, a mean, a plain pool or (uneven windows) TVM's operator."""
    added = as_image(op, emit, spatial=2)
    size, target = shape(op.input)[2:], pair(op.output_size)
    if target == size:
        result = op.input
    elif target == [1, 1]:
        result = emit(relax.op.mean(op.input, [2, 3], keepdims=True))
    elif all(s % t == 0 for s, t in zip(size, target, strict=True)):
        window = [s // t for s, t in zip(size, target, strict=True)]
        result = emit(relax.op.nn.avg_pool2d(op.input, window, window))
    else:
        result = emit(relax.op.nn.adaptive_avg_pool2d(op.input, target))
    return from_image(result, added, emit)


@rule("adaptive_max_pool2d.default", refuse=lambda node: wants_positions(node) or has_static_image(node))
def adaptive_max_pool2d(op: SimpleNamespace, emit: Emit) -> tuple[relax.Var]:
    """Import adaptive max pooling: a plain pool, or (uneven windows) the maxima of rows, then of columns."""
    added = as_image(op, emit, spatial=2)
    size, target = shape(op.input)[2:], pair(op.output_size)
    if all(s % t == 0 for s, t in zip(size, target, strict=True)):
        window = [s // t for s, t in zip(size, target, strict=True)]
        return (from_image(emit(relax.op.nn.max_pool2d(op.input, window, window)), added, emit),)
    result = op.input
    for axis, s, t in zip((2, 3), size, target, strict=True):
        windows = [(i * s // t, -(-(i + 1) * s // t)) for i in range(t)]
        parts = [emit(relax.op.strided_slice(result, [axis], [begin], [end])) for begin, end in windows]
        result = emit(relax.op.concat([emit(relax.op.max(part, [axis], True)) for part in parts], axis))
    return (from_image(result, added, emit),)
