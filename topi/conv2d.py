"""Dense 2-D convolution, NHWC, with its weights packed into panels of output channels.

The compute has three stages, so that a schedule needs no conditions inside the reduction:

``window``
    the input with its zero border (and, for a transposed convolution, the zeros between its rows and columns),
    copied strip by strip into cache; absent when the input can be read in place;
``conv2d``
    the sums, over a domain rounded up to whole register tiles: nobody reads the excess;
``crop``
    the part of it that is the result. Epilogues fuse behind it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import te, tirx

from .fused_pointwise import fused_pointwise
from .machine import Machine
from .matrix_product import matrix_product, product_result
from .operators import Make, Sample, activated_sample, operator_attrs, register_knobs, register_operator
from .problem import Problem
from .product_steps import Steps
from .schedules.cpu.tile import TileKnobs, TileLoops
from .schedules.cuda.chain_knobs import GpuChainKnobs
from .schedules.cuda.gemm_knobs import GemmKnobs, GemmLoops
from .window import extents, padded_window, reduce_axes


@dataclass(frozen=True, kw_only=True)
class Conv2dParams:
    """A 2-D convolution apart from its data.

    Attributes
    ----------
    kernel, stride, dilation, input_dilation : tuple of int
        (height, width). ``input_dilation`` inserts zeros between input pixels: a transposed convolution of stride
        s is a convolution with ``input_dilation`` s and the kernel turned by 180 degrees.
    padding : tuple of int
        Zeros at (top, left, bottom, right), counted after ``input_dilation``. May be negative there (cropping).
    groups : int
    out_channels : int
    data_layout : str
        ``"NHWC"`` or ``"NCHW"``; the result is NHWC always.
    """

    kernel: tuple[int, int]
    out_channels: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    input_dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    data_layout: str = "NHWC"

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for an input of ``height`` × ``width``."""
        sizes = []
        for axis, size in enumerate((height, width)):
            extent = (size - 1) * self.input_dilation[axis] + 1 + self.padding[axis] + self.padding[axis + 2]
            sizes.append(
                (extent - self.dilation[axis] * (self.kernel[axis] - 1) - 1) // self.stride[axis] + 1
            )
        return sizes[0], sizes[1]

    def window_size(self, rows: int, cols: int) -> tuple[int, int]:
        """Height and width of the padded input under ``rows`` × ``cols`` outputs."""
        height, width = (
            (extent - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
            for axis, extent in enumerate((rows, cols))
        )
        return height, width

    @property
    def reads_in_place(self) -> bool:
        """Whether every tap of every output lies inside the input as it is stored."""
        return self.padding == (0, 0, 0, 0) and self.input_dilation == (1, 1) and self.data_layout == "NHWC"


@dataclass(frozen=True, kw_only=True)
class ConvProblem(Problem):
    """A convolution, of whatever operator: ``channels`` planes of ``height`` × ``width``, and ``conv``."""

    height: int
    width: int
    channels: int
    conv: Conv2dParams

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(o, c / groups, kh, kw)"""
        return (self.conv.out_channels, self.channels // self.conv.groups, *self.conv.kernel)

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the result."""
        return self.conv.output_size(self.height, self.width)

    @property
    def loops(self) -> TileLoops:
        """As the register tile sees it."""
        rows, columns = self.output_size
        reduction = math.prod(self.weight_shape[1:])
        return TileLoops(
            batch=self.batch,
            height=rows,
            width=columns,
            out_channels=self.conv.out_channels // self.conv.groups,
            groups=self.conv.groups,
            reduction=reduction,
            strip_row_bytes=4 * self.conv.stride[0] * self.conv.window_size(1, columns)[1] * self.channels,
            weight_bytes=4 * self.conv.out_channels * reduction,
            neighbours=self.weight_shape[1],
            input_parts=self.conv.groups,
        )

    @property
    def gemm_loops(self) -> GemmLoops | None:
        """As a matrix product sees it; ``None`` where it is several."""
        if self.conv.groups > 1:
            return None
        return GemmLoops(
            batch=1,
            rows=self.batch * math.prod(self.output_size),
            columns=self.conv.out_channels,
            taps=math.prod(self.conv.kernel),
            depth=self.channels,
            input_bytes=4 * self.batch * self.height * self.width * self.channels,
            across=self.conv.kernel[1],
        )

    @property
    def is_channels_last(self) -> bool:
        """Whether the channels of a pixel are neighbours."""
        return self.conv.data_layout == "NHWC"

    def random(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Data (n, h, w, c) and weight, float32."""
        data = rng.standard_normal((self.batch, self.height, self.width, self.channels), np.float32)
        return data, rng.standard_normal(self.weight_shape, np.float32)

    def stored(self, data: np.ndarray) -> np.ndarray:
        """``data`` (n, h, w, c) in the layout that the operator reads."""
        axes = ["NHWC".index(axis) for axis in self.conv.data_layout]
        return np.ascontiguousarray(data.transpose(axes))


def conv2d_reference(data: np.ndarray, weight: np.ndarray, params: Conv2dParams) -> np.ndarray:
    """Obvious convolution in float64, one tap of the kernel after the other.

    Parameters
    ----------
    data : ndarray, (n, h, w, c)
    weight : ndarray, (o, c / groups, kh, kw)
        As PyTorch stores it.

    Returns
    -------
    ndarray, (n, oh, ow, o), float32
    """
    n, h, w, c = data.shape
    top, left, bottom, right = params.padding
    dh, dw = params.input_dilation
    spread = np.zeros((n, (h - 1) * dh + 1, (w - 1) * dw + 1, c))
    spread[:, ::dh, ::dw] = data
    padded = np.pad(spread, ((0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0)), (0, 0)))
    padded = padded[:, max(-top, 0) : padded.shape[1] - max(-bottom, 0)]
    padded = padded[:, :, max(-left, 0) : padded.shape[2] - max(-right, 0)]
    oh, ow = params.output_size(h, w)
    groups = params.groups
    kernel = weight.astype(np.float64).reshape(groups, -1, *weight.shape[1:])
    out = np.zeros((n, oh, ow, groups, kernel.shape[1]))
    for r, s in np.ndindex(params.kernel):
        rows = np.arange(oh) * params.stride[0] + r * params.dilation[0]
        cols = np.arange(ow) * params.stride[1] + s * params.dilation[1]
        tap = padded[:, rows][:, :, cols].reshape(n, oh, ow, groups, c // groups)
        out += np.einsum("nyxgc,goc->nyxgo", tap, kernel[..., r, s], optimize=True)
    return out.reshape(n, oh, ow, params.out_channels).astype(np.float32)


def pack_weight(weight: np.ndarray, panel: int) -> np.ndarray:
    """Pack (o, i, kh, kw) into (panels, kh, kw, i, panel), the order in which the kernel reads it.

    Output channels are padded with zeros to a multiple of ``panel``.
    """
    o = weight.shape[0]
    padded = np.zeros((-(-o // panel) * panel, *weight.shape[1:]), weight.dtype)
    padded[:o] = weight
    panels = padded.reshape(-1, panel, *weight.shape[1:])
    return np.ascontiguousarray(panels.transpose(0, 3, 4, 2, 1))


def conv2d(
    data: te.Tensor,
    weight: te.Tensor,
    params: Conv2dParams,
    tile: TileKnobs | GemmKnobs,
    attrs: dict[str, str],
) -> te.Tensor:
    """Convolve ``data`` with packed ``weight``: on register tiles, or as a `matrix_product`.

    Parameters
    ----------
    data : Tensor, (n, h, w, c) or, for ``data_layout`` "NCHW", (n, c, h, w), float32
        ``n`` may be symbolic.
    weight : Tensor, (panels, kh, kw, c / groups, panel)
        From `pack_weight` with ``panel = tile.panel``.
    attrs : dict
        Annotations of the anchor block.

    Returns
    -------
    Tensor, (n, oh, ow, out_channels)
    """
    if isinstance(tile, GpuChainKnobs):
        return fused_pointwise(data, weight, params.out_channels, tile, attrs)
    if isinstance(tile, GemmKnobs):
        return _as_product(data, weight, params, tile, attrs)
    n, h, w = (data.shape[params.data_layout.index(axis)] for axis in "NHW")
    oh, ow = params.output_size(int(h), int(w))
    panels, kh, kw, per_group_in, panel = (int(extent) for extent in weight.shape)
    panels_per_group = panels // params.groups
    rows, cols = tile.round_up(oh, ow)
    window = data
    if not (params.reads_in_place and (rows, cols) == (oh, ow)):
        size = params.window_size(rows, cols)
        window = padded_window(data, size, params.padding, 0.0, params.input_dilation, params.data_layout)
    ry, rx, rc = reduce_axes(ry=kh, rx=kw, rc=per_group_in)

    def taps(b: tirx.Var, y: tirx.Var, x: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        row = y * params.stride[0] + ry * params.dilation[0]
        col = x * params.stride[1] + rx * params.dilation[1]
        channel = rc if params.groups == 1 else o // (panels_per_group * panel) * per_group_in + rc
        return te.sum(
            window[b, row, col, channel] * weight[o // panel, ry, rx, rc, o % panel], axis=[ry, rx, rc]
        )

    sums = te.compute(extents(n, rows, cols, panels * panel), taps, name="conv2d", attrs=attrs)
    return te.compute(
        extents(n, oh, ow, params.out_channels), lambda b, y, x, o: sums[b, y, x, o], name="crop"
    )


def _as_product(
    data: te.Tensor, weight: te.Tensor, params: Conv2dParams, knobs: GemmKnobs, attrs: dict[str, str]
) -> te.Tensor:
    """Pixels of the result times taps and channels, by taps and channels times output channels."""
    n, h, w = (data.shape[params.data_layout.index(axis)] for axis in "NHW")
    oh, ow = params.output_size(int(h), int(w))
    panels, kh, kw, c, panel = (int(extent) for extent in weight.shape)
    steps, pixels = Steps.of(kh * kw, c, knobs.tile_k, kw), n * oh * ow
    zero = tirx.const(0.0, "float32")

    def place(step: tvm.ir.Expr, term: tvm.ir.Expr) -> tuple[tvm.ir.Expr, ...]:
        """(kernel row, kernel column, channel, what says that the term exists)"""
        tap, channel = steps.place(step, term)
        if steps.in_lines:
            line, column = tap, channel
            return line % kh, column, line // kh, *([column < kw] if steps.is_padded else [])
        if steps.taps == 1:
            exists = [channel < kh * kw * c] if steps.is_padded else []
            tap, channel = channel // c, channel % c
        else:
            exists = []
        return tap // kw, tap % kw, channel, *exists

    def pixel(step: tirx.Var, term: tirx.Var, m: tirx.Var) -> tvm.ir.Expr:
        ry, rx, channel, *conditions = place(step, term)
        row = m // ow % oh * params.stride[0] + ry * params.dilation[0] - params.padding[0]
        col = m % ow * params.stride[1] + rx * params.dilation[1] - params.padding[1]
        if params.padding != (0, 0, 0, 0) or params.input_dilation != (1, 1):
            (dh, dw) = params.input_dilation
            conditions += [row >= 0, row < (h - 1) * dh + 1, col >= 0, col < (w - 1) * dw + 1]
            if (dh, dw) != (1, 1):
                conditions += [tirx.floormod(row, dh) == 0, tirx.floormod(col, dw) == 0]
                row, col = tirx.floordiv(row, dh), tirx.floordiv(col, dw)
        conditions.append(m < pixels)
        image = m // (oh * ow)
        at = (image, row, col, channel) if params.data_layout == "NHWC" else (image, channel, row, col)
        return tirx.if_then_else(tirx.all(*conditions), data[at], zero)

    def tap(step: tirx.Var, term: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        ry, rx, channel, *conditions = place(step, term)
        value = weight[o // panel, ry, rx, channel, o % panel]
        return tirx.if_then_else(tirx.all(*conditions), value, zero) if conditions else value

    sums = matrix_product(pixel, tap, pixels, panels * panel, steps, knobs, attrs)
    return product_result(sums, knobs.slices, (n, oh, ow, params.out_channels))


def packed_conv_maker(name: str, compute: Callable[..., te.Tensor]) -> Make:
    """What makes a convolution of panels from `pack_weight` alone."""

    def make(problem: ConvProblem, knobs: TileKnobs, _machine: Machine, rng: np.random.Generator) -> Sample:
        data, weight = problem.random(rng)
        arrays = (problem.stored(data), pack_weight(weight, knobs.panel))
        attrs = operator_attrs(name, problem, knobs)
        how = {"params": problem.conv, "tile": knobs, "attrs": attrs}

        def reference() -> np.ndarray:
            return conv2d_reference(data, weight, problem.conv)

        return activated_sample(compute, arrays, reference, problem.conv.out_channels, rng, **how)

    return make


register_operator("conv2d", ConvProblem)
register_knobs("llvm", "conv2d", TileKnobs, packed_conv_maker("conv2d", conv2d))
register_knobs("cuda", "conv2d", GemmKnobs, packed_conv_maker("conv2d", conv2d))
