"""Pack decisions about NCHW into words: a vector of pixels collects one channel after the other as its bits.

Compared with a transpose to NHWC and `bitpack`, nothing is stored between. Where the pixels are no multiple of a tile,
the last tile overlaps the one before it, so that no value is padded and no condition is in the way of a vector.
"""

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from .bitpack import Thresholds, bitpack_reference
from .bits import WORD, WORD_BITS, bit_of, word_count
from .window import extents

MAX_VECTORS = 4
"""Vectors of pixels in a tile: cache lines that lie side by side in each channel."""


def bitpack_planar_reference(data: np.ndarray, how: Thresholds, groups: int = 1) -> np.ndarray:
    """Pack float32 (n, c, h, w) into uint32 (n, h, w, groups · words), slowly."""
    return bitpack_reference(data.transpose(0, 2, 3, 1), how, groups)


def vectors_of(pixels: int, lanes: int) -> int | None:
    """Vectors in a tile, so that the fewest pixels are packed twice; ``None`` where the plane fills no vector."""
    fitting = [n for n in range(1, MAX_VECTORS + 1) if n * lanes <= pixels]
    return min(fitting, key=lambda n: (-(-pixels // (n * lanes)) * n, -n), default=None)


def bitpack_planar(shape: tuple[int | tirx.Var, ...], groups: int, flips: bool, lanes: int) -> tirx.PrimFunc:
    """Build the packing of float32 NCHW of ``shape``, scheduled.

    Parameters
    ----------
    shape : (n, c, h, w)
        Only n may be symbolic; h · w is at least ``lanes``.
    groups : int
        Each begins with a new word.
    flips : bool
        Whether there are bits to turn.

    Returns
    -------
    PrimFunc
        (data, limit, [flip,] words): ``limit`` float32 from `threshold_rows`, ``flip`` uint32 from `flip_words`,
        ``words`` uint32 (n, h, w, groups · words).
    """
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
            _walk(planes, limit, flip, packed, (groups, per_group), lanes)
    return builder.get()


def _walk(
    planes: tirx.Buffer,
    limit: tirx.Buffer,
    flip: tirx.Buffer | None,
    packed: tirx.Buffer,
    channels: tuple[int, int],
    lanes: int,
) -> None:
    """Emit the loops over tiles, in parallel, groups and words; the last word of a group may be short."""
    batch, _, pixels = planes.shape
    (groups, per_group), pixels = channels, int(pixels)
    vectors = vectors_of(pixels, lanes)
    assert vectors is not None, "the plane fills no vector"
    side, words = vectors * lanes, word_count(per_group)
    tiles = -(-pixels // side)
    whole, rest = divmod(per_group, WORD_BITS)
    with build.parallel(*extents(0, batch * tiles)) as task, build.serial(*extents(0, groups)) as group:
        item, tile = tirx.floordiv(task, tiles), tirx.floormod(task, tiles)
        start = build.bind(tirx.min(tile * side, pixels - side))

        def one_word(word: tvm.ir.Expr, bits: int) -> None:
            column, channel = group * words + word, group * per_group + word * WORD_BITS
            for first in range(0, side, lanes):
                at = start + first
                value = _collect(planes, limit, (item, channel, at), column * WORD_BITS, bits, lanes)
                if flip is not None:
                    value = value ^ tirx.Broadcast(flip[column], lanes)
                row = tirx.Ramp((item * pixels + at) * (groups * words) + column, groups * words, lanes)
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
