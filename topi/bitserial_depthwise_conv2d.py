"""Depthwise convolution of packed bits: 32 channels at once, counted by adders of bits; exact in int32.

A window of one channel has few taps, no words to count the bits of. So a word stays a vector of 32 channels: the
differing bits of a tap are one exclusive or, and adders of bits sum the taps into words that hold one binary digit of
all 32 counts each (`bit_counters`). A limit per channel is compared digit by digit in the same form, so that bits
become bits without ever being numbers.

What a count D stands for is `bitserial_conv2d`'s ``table − step · D``, borders included, for activations of one bit
and weights of one plane.
"""

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import te, tirx

from .bit_counters import Words, below, count_bits, stage_maker
from .bits import WORD, WORD_BITS, bit_of, pack_bits, pack_digits, unpack_bits, word_count
from .bitserial_conv2d import (
    BitserialParams,
    BitserialProblem,
    bitserial_conv2d_reference,
    border_table,
    packed_limits,
)
from .borders import class_of
from .machine import Machine
from .operators import Sample, operator_attrs, register_knobs, register_operator, te_function
from .schedules.cpu.bitserial_depthwise import BitserialDepthwiseKnobs, BitserialDepthwiseLoops
from .schedules.cuda.words import DepthwiseWordKnobs
from .window import extents, stage

MAX_TAPS = 49
"""Every adder is a stage of the schedule: a 7×7 kernel compiles in under a second, 31×31 would not."""


@dataclass(frozen=True, kw_only=True)
class BitserialDepthwiseProblem(BitserialProblem):
    """A convolution of packed bits, one channel per group, all groups in one row of words."""

    @property
    def depthwise_loops(self) -> BitserialDepthwiseLoops:
        """As the template sees it."""
        conv = self.layer.conv
        height, columns = conv.output_size(self.height, self.width)
        words, taps = columns * word_count(conv.groups), conv.kernel[0] * conv.kernel[1]
        return BitserialDepthwiseLoops(batch=self.batch, height=height, words=words, taps=taps)


def bitserial_depthwise_conv2d_reference(
    words: np.ndarray, signs: np.ndarray, params: BitserialParams
) -> np.ndarray:
    """Slow, obvious: one word for each channel, then as `bitserial_conv2d_reference`.

    Parameters
    ----------
    words : ndarray, (n, h, w, words), uint32
        As `bitpack` leaves them for one group.
    signs : ndarray, (1, c, 1, kh, kw), bool
        True for +1.
    params : BitserialParams
        With as many groups and output channels as channels.

    Returns
    -------
    ndarray, (n, oh, ow, c), int32
    """
    return bitserial_conv2d_reference(unpack_bits(words, params.channels).astype(np.uint32), signs, params)


def row_words(columns: int, channels: int, lanes: int) -> int:
    """Words of a row of outputs, whose columns and words are one axis, in whole vectors of ``lanes``."""
    return -(-columns * word_count(channels) // lanes) * lanes


def sign_rows(signs: np.ndarray, row: int) -> np.ndarray:
    """Pack bool (1, c, 1, kh, kw) into uint32 (kh, kw, row), the same for every column; ``row`` from `row_words`."""
    words = pack_bits(signs[0, :, 0].transpose(1, 2, 0))
    return np.tile(words, -(-row // words.shape[2]))[..., :row]


def limit_rows(
    table: np.ndarray, params: BitserialParams, at: np.ndarray, height: int, width: int, row: int
) -> np.ndarray:
    """The bit ``total >= at`` as the binary digits of a limit that D is below.

    Parameters
    ----------
    table : ndarray, (row classes, column classes, c), int32
        From `border_table`.
    at : ndarray, (c,), float64
        Infinite where the bit does not depend on the data.
    height, width : int
        Of the input.
    row : int
        From `row_words`.

    Returns
    -------
    ndarray, (row classes, digits, row), uint32
        Lowest digit first. Behind the last channel nothing is below.
    """
    highest = _taps(params) + 1
    limits = np.clip(packed_limits(table, params.step, at, WORD_BITS), 0, highest)
    columns = range(params.conv.output_size(height, width)[1])
    limits = limits[:, [class_of(params, height, width, 0, x)[1] for x in columns]]
    digits = highest.bit_length()
    planes = pack_digits(limits, digits).reshape(*limits.shape[:2], digits, -1)
    rows = planes.swapaxes(1, 2).reshape(len(planes), digits, -1)
    return np.pad(rows, ((0, 0), (0, 0), (0, row - rows.shape[2])))


def bitserial_depthwise_conv2d(
    words: te.Tensor, weight: te.Tensor, table: te.Tensor, params: BitserialParams, attrs: dict[str, str]
) -> te.Tensor:
    """Convolve every channel with its own kernel.

    Parameters
    ----------
    words : Tensor, (n, h, w, words), uint32
    weight : Tensor, (kh, kw, row), uint32
        From `sign_rows`.
    table : Tensor, (row classes, column classes, c), int32
        From `border_table`.
    params : BitserialParams
        With as many groups and output channels as channels.

    Returns
    -------
    Tensor, (n, oh, ow, c), int32
    """
    n, h, w, count = words.shape
    oh, ow = params.conv.output_size(int(h), int(w))
    named = stage_maker((*extents(n, oh), weight.shape[2]))
    digits = count_bits(_differing(words, weight, params), named)

    def digit(b: tirx.Var, y: tirx.Var, k: tirx.Var, e: tirx.Var) -> tvm.ir.Expr:
        """The digit k, which is a constant once its loop is unrolled."""
        value = tirx.const(0, WORD)
        for i, plane in enumerate(digits):
            value = tirx.Select(k.equal(i), plane(b, y, e), value)
        return value

    shape, row = extents(n, oh, len(digits), ow * int(count)), weight.shape[2]
    name = "bitserial_depthwise_conv2d"
    counts = te.compute((*shape[:3], row), digit, name=name, attrs=attrs | stage("counts"))
    planes = te.compute(shape, lambda *at: counts[at], name="rows", attrs=stage("rows"))

    def total(b: tirx.Var, y: tirx.Var, x: tirx.Var, c: tirx.Var) -> tvm.ir.Expr:
        result = table[(*class_of(params, int(h), int(w), y, x), c)]
        for k in range(len(digits)):
            word = planes[b, y, k, x * count + tirx.floordiv(c, WORD_BITS)]
            differs = tirx.NE(word & bit_of(c), tirx.const(0, WORD))
            result -= tirx.Select(differs, tirx.const(params.step << k, "int32"), tirx.const(0, "int32"))
        return result

    return te.compute(extents(n, oh, ow, params.channels), total, name="total")


def bitserial_depthwise_conv2d_packed(
    words: te.Tensor, weight: te.Tensor, limits: te.Tensor, params: BitserialParams, attrs: dict[str, str]
) -> te.Tensor:
    """Convolve and compare with a limit per channel.

    Parameters
    ----------
    words, weight
        As for `bitserial_depthwise_conv2d`.
    limits : Tensor, (row classes, digits, row), uint32
        From `limit_rows`.

    Returns
    -------
    Tensor, (n, oh, ow, words), uint32
    """
    n, h, w, count = words.shape
    oh, ow = params.conv.output_size(int(h), int(w))
    shape = (*extents(n, oh), weight.shape[2])
    named = stage_maker(shape)
    digits = count_bits(_differing(words, weight, params), named)

    def limit(k: int) -> Words:
        return lambda b, y, e: limits[class_of(params, int(h), int(w), y, 0)[0], k, e]

    decided = below(digits, [limit(k) for k in range(int(limits.shape[1]))], named)
    name = "bitserial_depthwise_conv2d"
    bits = te.compute(shape, lambda *at: decided(*at), name=name, attrs=attrs | stage("counts"))
    rows = te.compute(extents(n, oh, ow * int(count)), lambda *at: bits[at], name="rows", attrs=stage("rows"))
    shape = extents(n, oh, ow, count)
    return te.compute(shape, lambda b, y, x, word: rows[b, y, x * count + word], name="bits")


def _taps(params: BitserialParams) -> int:
    return params.conv.kernel[0] * params.conv.kernel[1]


def _differing(words: te.Tensor, weight: te.Tensor, params: BitserialParams) -> list[Words]:
    """The exclusive or of every tap with its weights."""
    conv, count = params.conv, words.shape[3]
    window = _strided_window(words, params, int(weight.shape[2]))

    def tap(r: int, c: int) -> Words:
        ahead, part = divmod(c * conv.dilation[1], conv.stride[1])

        def differing(b: tirx.Var, y: tirx.Var, e: tirx.Var) -> tvm.ir.Expr:
            pixel = (y * conv.stride[0] + r * conv.dilation[0], part, tirx.floordiv(e, count) + ahead)
            return window[(b, *pixel, tirx.floormod(e, count))] ^ weight[r, c, e]

        return differing

    return [tap(r, c) for r in range(conv.kernel[0]) for c in range(conv.kernel[1])]


def _strided_window(words: te.Tensor, params: BitserialParams, row: int) -> te.Tensor:
    """The padded input, where the columns that neighbouring outputs read lie side by side.

    uint32 (n, rows, stride, columns, words): column x of the input is column x // stride of part x % stride.
    """
    conv, stride = params.conv, params.conv.stride[1]
    n, h, w, count = words.shape
    rows, columns = conv.window_size(conv.output_size(int(h), int(w))[0], -(-row // int(count)))

    def pixel(b: tirx.Var, y: tirx.Var, part: tirx.Var, x: tirx.Var, word: tirx.Var) -> tvm.ir.Expr:
        row, col = y - conv.padding[0], x * stride + part - conv.padding[1]
        inside = tirx.all(row >= 0, row < h, col >= 0, col < w)
        return tirx.if_then_else(inside, words[b, row, col, word], tirx.const(0, WORD))

    shape = extents(n, rows, stride, -(-columns // stride), count)
    return te.compute(shape, pixel, name="window", attrs=stage("window"))


def make_bitserial_depthwise_conv2d(
    problem: BitserialDepthwiseProblem,
    knobs: BitserialDepthwiseKnobs | DepthwiseWordKnobs,
    _machine: Machine,
    rng: np.random.Generator,
) -> Sample:
    """`bitserial_depthwise_conv2d`, or its packed form, alone."""
    params, conv, plane = problem.layer, problem.layer.conv, (problem.height, problem.width)
    words = pack_bits(rng.random((problem.batch, *plane, params.channels)) < 0.5)
    signs = rng.random((1, params.channels, 1, *conv.kernel)) < 0.5
    row, table = (
        row_words(conv.output_size(*plane)[1], conv.groups, knobs.lanes),
        border_table(signs, params, *plane),
    )
    how = {"params": params, "attrs": operator_attrs("bitserial_depthwise_conv2d", problem, knobs)}
    if not problem.packed:
        arrays = (words, sign_rows(signs, row), table)
        func = te_function(bitserial_depthwise_conv2d, arrays, **how)
        return Sample(func, arrays, lambda: bitserial_depthwise_conv2d_reference(words, signs, params))
    at = rng.integers(-3, 3, params.channels).astype(np.float64)
    arrays = (words, sign_rows(signs, row), limit_rows(table, params, at, *plane, row))
    func = te_function(bitserial_depthwise_conv2d_packed, arrays, **how)
    return Sample(
        func, arrays, lambda: pack_bits(bitserial_depthwise_conv2d_reference(words, signs, params) >= at)
    )


register_operator("bitserial_depthwise_conv2d", BitserialDepthwiseProblem)
register_knobs("llvm", "bitserial_depthwise_conv2d", BitserialDepthwiseKnobs, make_bitserial_depthwise_conv2d)
register_knobs("cuda", "bitserial_depthwise_conv2d", DepthwiseWordKnobs, make_bitserial_depthwise_conv2d)
