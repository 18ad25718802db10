"""The loops of `topi.bitpack_planar` on a CPU: a vector of pixels collects one channel after the other as its bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from ...bits import WORD, WORD_BITS, bit_of, word_count
from ...window import extents
from ..registry import register_body

if TYPE_CHECKING:
    from ...bitpack_planar import PlanarKnobs


def bitpack_planar_loops(
    shape: tuple[int | tirx.Var, ...],
    groups: int,
    flips: bool,
    tile: PlanarKnobs,
) -> tirx.PrimFunc:
    """The body of `topi.bitpack_planar.bitpack_planar`; arguments as there."""
    batch, (channels, height, width) = shape[0], (int(n) for n in shape[1:])
    pixels, per_group = height * width, channels // groups
    words = groups * word_count(per_group)
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        data = build.arg("data", build.buffer(extents(*shape), "float32"))
        limit = build.arg("limit", build.buffer(extents(words * WORD_BITS), "float32"))
        flip = build.arg("flip", build.buffer(extents(words), WORD)) if flips else None
        result = build.arg("result", build.buffer(extents(batch, height, width, words), WORD))
        with build.sblock("root"):
            planes = build.decl_buffer(extents(batch, channels, pixels), "float32", data=data.data)
            packed = build.decl_buffer(extents(batch * pixels * words), WORD, data=result.data)
            _walk(planes, limit, flip, packed, (groups, per_group), tile)
    return builder.get()


def _walk(
    planes: tirx.Buffer,
    limit: tirx.Buffer,
    flip: tirx.Buffer | None,
    packed: tirx.Buffer,
    channels: tuple[int, int],
    tile: PlanarKnobs,
) -> None:
    """Emit the loops over tiles, in parallel, groups and words; the last word of a group may be short."""
    batch, _, pixels = planes.shape
    (groups, per_group), pixels = channels, int(pixels)
    lanes, side, words = tile.lanes, tile.vectors * tile.lanes, word_count(per_group)
    tiles = -(-pixels // side)
    whole, rest = divmod(per_group, WORD_BITS)
    with build.parallel(*extents(0, batch * tiles)) as task, build.serial(*extents(0, groups)) as group:
        item, column = tirx.floordiv(task, tiles), tirx.floormod(task, tiles)
        start = build.bind(tirx.min(column * side, pixels - side))

        def one_word(word: tvm.ir.Expr, bits: int) -> None:
            entry, channel = group * words + word, group * per_group + word * WORD_BITS
            for first in range(0, side, lanes):
                at = start + first
                value = _collect(planes, limit, (item, channel, at), entry * WORD_BITS, bits, lanes)
                if flip is not None:
                    value = value ^ tirx.Broadcast(flip[entry], lanes)
                row = tirx.Ramp((item * pixels + at) * (groups * words) + entry, groups * words, lanes)
                build.buffer_store(packed, value, [row])

        if whole:
            with build.serial(*extents(0, whole)) as word:
                one_word(word, WORD_BITS)
        if rest:
            one_word(tirx.IntImm("int64", whole), rest)


def _collect(
    planes: tirx.Buffer,
    limit: tirx.Buffer,
    at: tuple[tvm.ir.Expr, tvm.ir.Expr, tvm.ir.Expr],
    row: tvm.ir.Expr,
    bits: int,
    lanes: int,
) -> tvm.ir.Expr:
    """The words of a vector of pixels, bit by bit."""
    item, channel, pixel = at
    none = tirx.Broadcast(tirx.const(0, WORD), lanes)
    value: tvm.ir.Expr = none
    for j in range(bits):
        loaded = tirx.BufferLoad(planes, [item, channel + j, tirx.Ramp(pixel, 1, lanes)])
        passes = tirx.GE(loaded, tirx.Broadcast(limit[row + j], lanes))
        bit = tirx.Broadcast(bit_of(j), lanes)
        value = build.bind(value | tirx.Select(passes, bit, none))
    return value


register_body("llvm", "bitpack_planar", bitpack_planar_loops)
