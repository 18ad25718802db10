"""Rules for padding, resizing, sampling, and cutting images into patches."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn import functional
from tvm import relax

from .torch_rules import Emit, as_image, from_image, has_static_image, rule, shape


@rule("pad.default", "constant_pad_nd.default", keep=True)
def pad(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import padding of every mode.

    Negative amounts cut off, in PyTorch's order: before others are added, but after a reflection or a repetition.
    """
    rank, mode = len(shape(op.input)), getattr(op, "mode", "constant")
    amounts = [(0, 0)] * (rank - len(op.pad) // 2) + list(zip(op.pad[-2::-2], op.pad[::-2], strict=True))
    padded_first = mode in ("reflect", "replicate")
    data = op.input if padded_first else _cut(op.input, amounts, emit)
    for axis, both in enumerate(amounts):
        if mode == "circular" and 0 < max(both) > shape(data)[axis]:
            raise NotImplementedError(
                f"it wraps more than the {shape(data)[axis]} values that it leaves of axis {axis}"
            )
    widths = [max(amount, 0) for both in amounts for amount in both]
    if any(widths):
        value = float(bool(op.value)) if data.ty.dtype == "bool" else op.value or 0.0
        data = emit(relax.op.nn.pad(data, widths, mode, value))
    return _cut(data, amounts, emit) if padded_first else data


def _cut(data: relax.Expr, amounts: list[tuple[int, int]], emit: Emit) -> relax.Expr:
    """Take away what negative amounts (before, after) of each axis say."""
    for axis, (before, after) in enumerate(amounts):
        if before < 0 or after < 0:
            end = shape(data)[axis] + min(after, 0)
            data = emit(relax.op.strided_slice(data, [axis], [max(-before, 0)], [end]))
    return data


def resize(op: SimpleNamespace, emit: Emit, mode: str, antialias: bool = False) -> relax.Var:
    """Import a resize as ``resize2d`` where that computes the same, else as one resampling per axis."""
    size = shape(op.input)[2:]
    scales = op.scale_factors or [None, None]
    target = op.output_size or [int(s * f) for s, f in zip(size, scales, strict=True)]
    align = getattr(op, "align_corners", None)
    # PyTorch samples at a given scale factor, TVM at the ratio of the sizes.
    same_ratio = all(f is None or s * f == t for s, t, f in zip(size, target, scales, strict=True))
    divides_by_zero = align and 1 in target  # TVM's step between corners is (size - 1) / (target - 1)
    if mode == "bilinear" and same_ratio and not antialias and not divides_by_zero:
        how = {
            "method": "linear",
            "coordinate_transformation_mode": "align_corners" if align else "half_pixel",
        }
        return emit(relax.op.image.resize2d(op.input, target, **how))
    if mode == "nearest" and all(t % s == 0 for s, t in zip(size, target, strict=True)):
        how = {"method": "nearest_neighbor", "coordinate_transformation_mode": "asymmetric"}
        return emit(relax.op.image.resize2d(op.input, target, rounding_method="floor", **how))
    result = op.input
    for axis, s, t, f in zip((2, 3), size, target, scales, strict=True):
        result = _resample(result, axis, _resampling(s, t, f, mode, align, antialias), mode, emit)
    return result


def _resample(x: relax.Expr, axis: int, matrix: np.ndarray, mode: str, emit: Emit) -> relax.Var:
    if mode.startswith("nearest"):
        return emit(relax.op.take(x, relax.const(matrix.argmax(1).astype("int64")), axis, "clip"))
    if axis == 2:
        return emit(relax.op.matmul(relax.const(matrix), x))
    return emit(relax.op.matmul(x, relax.const(np.ascontiguousarray(matrix.T))))


def _resampling(
    size: int, target: int, scale: float | None, mode: str, align: bool | None, antialias: bool
) -> np.ndarray:
    """Return the (target, size) matrix of a 1-D resize, as PyTorch itself resizes one-hot rows."""
    rows = torch.eye(size)[None, :, None, :]  # (1, size channels, height 1, width size)
    extent = {"size": (1, target)} if scale is None else {"scale_factor": (1.0, scale)}
    result = functional.interpolate(rows, **extent, mode=mode, align_corners=align, antialias=antialias)
    return np.ascontiguousarray(result[0, :, 0].T.numpy())


for _name, _mode, _antialias in (
    ("upsample_nearest2d.vec", "nearest", False),
    ("_upsample_nearest_exact2d.vec", "nearest-exact", False),
    ("upsample_bilinear2d.vec", "bilinear", False),
    ("upsample_bicubic2d.vec", "bicubic", False),
    ("_upsample_bilinear2d_aa.vec", "bilinear", True),
    ("_upsample_bicubic2d_aa.vec", "bicubic", True),
):
    rule(_name, refuse=has_static_image, keep=True)(partial(resize, mode=_mode, antialias=_antialias))


@rule("grid_sampler_2d.default")
def grid_sample(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``grid_sample``; TVM wants the grid's coordinates as channels."""
    grid = emit(relax.op.permute_dims(op.grid, [0, 3, 1, 2]))
    method = ("bilinear", "nearest", "bicubic")[op.interpolation_mode]
    padding = ("zeros", "border", "reflection")[op.padding_mode]
    return emit(relax.op.image.grid_sample(op.input, grid, method, "NCHW", padding, op.align_corners))


def _patch_kernel(channels: int, kernel: list[int]) -> relax.Expr:
    """Return the grouped one-hot kernel (channels * area, 1, kh, kw) that copies every pixel of a patch."""
    area = kernel[0] * kernel[1]
    return relax.const(np.tile(np.eye(area, dtype="float32").reshape(area, 1, *kernel), (channels, 1, 1, 1)))


@rule("im2col.default", refuse=has_static_image, keep=True)
def unfold(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``unfold`` as a grouped convolution with one-hot kernels."""
    added = as_image(op, emit, spatial=2)
    channels = shape(op.input)[1]
    kernel = _patch_kernel(channels, list(op.kernel_size))
    patches = relax.op.nn.conv2d(op.input, kernel, op.stride, op.padding, op.dilation, channels)
    patches = emit(patches)
    batch, rows, *_ = shape(patches)
    return from_image(emit(relax.op.reshape(patches, [batch, rows, -1])), added, emit)


@rule("col2im.default", keep=True)
def fold(op: SimpleNamespace, emit: Emit) -> relax.Var:
    """Import ``fold`` (sums overlapping patches) as a grouped transposed convolution with one-hot kernels."""
    unbatched = len(shape(op.input)) == 2
    columns = emit(relax.op.expand_dims(op.input, 0)) if unbatched else op.input
    batch, rows, _ = shape(columns)
    kernel, stride, padding, dilation = map(list, (op.kernel_size, op.stride, op.padding, op.dilation))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    spans = [o + 2 * p - r for o, p, r in zip(op.output_size, padding, reach, strict=True)]
    patches = emit(
        relax.op.reshape(
            columns, [batch, rows, *(span // s + 1 for span, s in zip(spans, stride, strict=True))]
        )
    )
    channels = rows // (kernel[0] * kernel[1])
    rest = [span % s for span, s in zip(spans, stride, strict=True)]
    weight = _patch_kernel(channels, kernel)
    result = emit(relax.op.nn.conv2d_transpose(patches, weight, stride, padding, rest, dilation, channels))
    return from_image(result, [0] * unbatched, emit)
