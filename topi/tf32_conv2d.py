"""Dense 2-D convolution and linear layer whose factors are rounded to TF32: products on tensor cores, sums in float32.

TF32 has float32's exponent and ten bits behind the point, so that a factor is off by up to 2⁻¹¹ of itself. Both sides
are rounded to the nearest, ties away from zero (``cvt.rna``); a product of two such numbers is exact in float32.
"""

from __future__ import annotations

import math

import numpy as np
import tvm
from tvm import te, tirx

from .conv2d import Conv2dParams, ConvProblem, conv2d_reference
from .machine import Machine
from .matrix_product import product_result, rows_of, unravel
from .operators import Sample, activated_sample, operator_attrs, register_knobs, register_operator
from .product_steps import Steps
from .schedules.cuda.tf32_knobs import Tf32Knobs
from .schedules.cuda.tf32_source import Tf32Tile
from .window import extents, reduce_axes

LANE_TERMS, LANES, EIGHT = 4, 4, 8
"""Of sixteen terms, four lanes have four neighbours each, for one of eight output channels."""


def round_to_tf32(values: np.ndarray) -> np.ndarray:
    """float32 rounded to ten bits behind the point, ties away from zero; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isnan(values), np.float32(np.nan), rounded)


def tf32_conv2d_reference(data: np.ndarray, weight: np.ndarray, params: Conv2dParams) -> np.ndarray:
    """`conv2d_reference` of rounded factors; arguments as there."""
    return conv2d_reference(round_to_tf32(data), round_to_tf32(weight), params)


def pack_tf32_weight(weight: np.ndarray, knobs: Tf32Knobs) -> np.ndarray:
    """Round (o, c, kh, kw), and pack it in the order in which lanes read it.

    Returns
    -------
    ndarray, (panels, steps, sixteens, eights, lanes, 4), float32
        Terms are taps times channels, in steps of ``knobs.tile_k``; what is behind the last is 0. Of sixteen terms and
        eight output channels, lane 4 g + t has the terms from 4 t on of channel g.
    """
    o, terms = len(weight), weight[0].size
    panels, steps = -(-o // knobs.panel), -(-terms // knobs.tile_k)
    rows = np.zeros((panels * knobs.panel, steps * knobs.tile_k), np.float32)
    rows[:o, :terms] = round_to_tf32(weight.transpose(0, 2, 3, 1).reshape(o, terms))
    apart = rows.reshape(panels, -1, EIGHT, steps, knobs.tile_k // 16, LANES, LANE_TERMS)
    packed = apart.transpose(0, 3, 4, 1, 2, 5, 6)
    return np.ascontiguousarray(packed.reshape(*packed.shape[:4], EIGHT * LANES, LANE_TERMS))


def tf32_conv2d(
    data: te.Tensor, weight: te.Tensor, params: Conv2dParams, tile: Tf32Knobs, attrs: dict[str, str]
) -> te.Tensor:
    """Convolve ``data`` with packed ``weight``.

    Parameters
    ----------
    data : Tensor, (n, h, w, c), float32
        ``n`` may be symbolic.
    weight : Tensor
        From `pack_tf32_weight`.
    params : Conv2dParams
        Of one group, for NHWC.
    attrs : dict
        Annotations of the anchor block.

    Returns
    -------
    Tensor, (n, oh, ow, out_channels), float32
    """
    plane = (int(data.shape[1]), int(data.shape[2]))
    sums = _sums(data, weight, _geometry(params, plane, int(data.shape[3])), tile, attrs)
    shape = (data.shape[0], *params.output_size(*plane), params.out_channels)
    return product_result(sums, tile.slices, shape)


def tf32_dense(
    data: te.Tensor, weight: te.Tensor, out_features: int, tile: Tf32Knobs, attrs: dict[str, str]
) -> te.Tensor:
    """Multiply the rows of ``data``, (..., k), by packed ``weight``, of an (o, k, 1, 1) kernel: a plane for each row.

    Returns
    -------
    Tensor, (..., out_features), float32
    """
    params = Conv2dParams(kernel=(1, 1), out_channels=out_features)
    sums = _sums(data, weight, _geometry(params, (1, 1), int(data.shape[-1])), tile, attrs)
    return product_result(sums, tile.slices, (*data.shape[:-1], out_features))


def _geometry(params: Conv2dParams, plane: tuple[int, int], channels: int) -> Tf32Tile:
    return Tf32Tile(
        plane=plane,
        out_plane=params.output_size(*plane),
        kernel=params.kernel,
        stride=params.stride,
        dilation=params.dilation,
        input_dilation=params.input_dilation,
        padding=(params.padding[0], params.padding[1]),
        channels=channels,
    )


def _sums(
    data: te.Tensor, weight: te.Tensor, geometry: Tf32Tile, knobs: Tf32Knobs, attrs: dict[str, str]
) -> te.Tensor:
    """Of every pixel, in whole tiles: (pixels, columns), behind an axis of slices where there are several."""
    pixels = rows_of(data.shape[:-1]) // math.prod(geometry.plane) * math.prod(geometry.out_plane)
    panels = int(weight.shape[0])
    steps = Steps.of(1, geometry.terms, knobs.tile_k)
    per_slice = steps.count // knobs.slices
    step, term = reduce_axes(step=per_slice, term=knobs.tile_k)

    def product(part: tvm.ir.Expr | int, pixel: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        at = part * per_slice + step
        in_panel, sixteen = o % knobs.panel, term % 16
        lane = in_panel % EIGHT * LANES + sixteen // LANE_TERMS
        value = weight[o // knobs.panel, at, term // 16, in_panel // EIGHT, lane, sixteen % LANE_TERMS]
        return te.sum(
            _tap(data, geometry, pixel, at * knobs.tile_k + term, pixels) * value, axis=[step, term]
        )

    shape = (-(-pixels // knobs.tile_m) * knobs.tile_m, panels * knobs.panel)
    attrs = attrs | {"fastconv.tile": geometry.to_json()}
    if knobs.slices == 1:
        return te.compute(extents(*shape), lambda *at: product(0, *at), name="tf32_conv2d", attrs=attrs)
    return te.compute(extents(knobs.slices, *shape), product, name="tf32_conv2d", attrs=attrs)


def _tap(
    data: te.Tensor, geometry: Tf32Tile, pixel: tirx.Var, k: tvm.ir.Expr, pixels: int | tvm.ir.Expr
) -> tvm.ir.Expr:
    """Term ``k`` of the window of ``pixel``, 0 outside the plane."""
    (kh, kw), (h, w), (dh, dw) = geometry.kernel, geometry.plane, geometry.input_dilation
    tap = k // geometry.channels
    image, row, column = geometry.under(pixel, tap // kw, tap % kw)
    inside = tirx.all(
        pixel < pixels, tap < kh * kw, row >= 0, row < (h - 1) * dh + 1, column >= 0, column < (w - 1) * dw + 1,
        tirx.floormod(row, dh).equal(0), tirx.floormod(column, dw).equal(0),
    )  # fmt: skip
    place = (image * h + tirx.floordiv(row, dh)) * w + tirx.floordiv(column, dw)
    value = data[(*unravel(place, data.shape[:-1]), k % geometry.channels)]
    return tirx.if_then_else(inside, value, tirx.const(0.0, "float32"))


def make_tf32_conv2d(
    problem: ConvProblem, knobs: Tf32Knobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`tf32_conv2d` alone."""
    (data, weight), params = problem.random(rng), problem.conv
    attrs = operator_attrs("tf32_conv2d", problem, knobs)
    how = {"params": params, "tile": knobs, "attrs": attrs}

    def reference() -> np.ndarray:
        return tf32_conv2d_reference(data, weight, params)

    arrays = (data, pack_tf32_weight(weight, knobs))
    return activated_sample(tf32_conv2d, arrays, reference, params.out_channels, rng, **how)


register_operator("tf32_conv2d", ConvProblem)
register_knobs("cuda", "tf32_conv2d", Tf32Knobs, make_tf32_conv2d)
