"""The sums of a bitserial convolution as GPUs compute them: pixels in one row, whose tiles stay in shared memory.

On tensor cores, which count the ones that two words have in common, the sums are Σ_i Σ_p 2^i · u_p · E_ip with
``E = popc(a) − 2 · popc(a & w) = D − popc(w)``; what the weights' own ones add is then no part of the table either.
"""

from __future__ import annotations

from typing import Protocol

import tvm
from tvm import te, tirx

from .bits import WORD
from .conv2d import Conv2dParams
from .schedules.cuda.bitserial import BitserialGpuKnobs
from .schedules.cuda.bitserial_source import BitserialTile
from .window import extents, reduce_axes


class PackedLayer(Protocol):
    """A bitserial convolution apart from its data, see `bitserial_conv2d.BitserialParams`."""

    @property
    def conv(self) -> Conv2dParams:
        """Its geometry."""

    @property
    def words(self) -> int:
        """Of one digit of one group's channels."""

    @property
    def activation_bits(self) -> int:
        """Binary digits of an activation."""

    @property
    def bit_planes(self) -> tuple[int, ...]:
        """What each weight plane counts, u."""


def tile_sums(
    words: te.Tensor,
    weight: te.Tensor,
    params: PackedLayer,
    tile: BitserialGpuKnobs,
    attrs: dict[str, str],
) -> te.Tensor:
    """Sums of every pixel, int32 (n · oh · ow, panels · panel); arguments as for `bitserial_conv2d`."""
    geometry = _geometry(words, params)
    n = words.shape[0]
    panels, kh, kw, per_digit, planes, panel = (int(extent) for extent in weight.shape)
    outputs = panels // params.conv.groups * panel
    axes = reduce_axes(i=params.activation_bits, p=planes, ry=kh, rx=kw, rc=per_digit)

    def counted(pixel: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        i, p, ry, rx, rc = axes
        group = o // outputs if params.conv.groups > 1 else 0
        word = (group * params.activation_bits + i) * per_digit + rc
        value, signs = (
            _tap(words, geometry, pixel, ry, rx, word),
            weight[o // panel, ry, rx, rc, p, o % panel],
        )
        if tile.counts_weights:
            count = tirx.popcount(value ^ signs).astype("int32")
        else:
            count = tirx.popcount(value).astype("int32") - 2 * tirx.popcount(value & signs).astype("int32")
        return te.sum(count * _unit(params.bit_planes, p) << i.var.astype("int32"), axis=axes)

    pixels = n * geometry.out_plane[0] * geometry.out_plane[1]
    return te.compute(
        extents(pixels, panels * panel),
        counted,
        name="bitserial_conv2d",
        attrs=attrs | {"fastconv.tile": geometry.to_json()},
    )


def pixel_of(plane: tuple[int, int], b: tirx.Var, y: tirx.Var, x: tirx.Var) -> tvm.ir.Expr:
    """The place of an output of a plane of (height, width) in the row of all pixels."""
    return (b * plane[0] + y) * plane[1] + x


def _geometry(words: te.Tensor, params: PackedLayer) -> BitserialTile:
    conv, plane = params.conv, (int(words.shape[1]), int(words.shape[2]))
    return BitserialTile(
        plane=plane,
        out_plane=conv.output_size(*plane),
        kernel=conv.kernel,
        stride=conv.stride,
        dilation=conv.dilation,
        padding=(conv.padding[0], conv.padding[1]),
        words=params.words,
        groups=conv.groups,
        digits=params.activation_bits,
        units=params.bit_planes,
    )


def _tap(
    words: te.Tensor,
    geometry: BitserialTile,
    pixel: tirx.Var,
    ry: tirx.IterVar,
    rx: tirx.IterVar,
    word: tvm.ir.Expr,
) -> tvm.ir.Expr:
    """One word under the window of ``pixel``, 0 outside the plane."""
    image, row, column = geometry.under(pixel, ry, rx)
    inside = tirx.all(row >= 0, row < geometry.plane[0], column >= 0, column < geometry.plane[1])
    return tirx.if_then_else(inside, words[image, row, column, word], tirx.const(0, WORD))


def _unit(units: tuple[int, ...], p: tirx.IterVar) -> tvm.ir.Expr:
    value = tirx.const(units[-1], "int32")
    for plane, unit in enumerate(units[:-1]):
        value = tirx.Select(p.var.equal(plane), tirx.const(unit, "int32"), value)
    return value
