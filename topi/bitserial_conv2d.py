"""Convolution of few-level activations by few-level weights, as popcounts of packed words; exact in int32.

An activation is ``x = r·q + m`` with ``q`` an unsigned integer of some binary digits, a weight ``n = Σ u_p · s_p``
with signs ``s_p = ±1``. ±1 activations are ``q`` of one bit with r = 2, m = −1; ±1 weights have the one plane u = 1;
ternary weights have two. With D the number of differing bits and P the number of weight bits that are 1,

    Σ q · s = Σ_i 2^i (P − D_i)        so        Σ x · n = table − r · Σ_i Σ_p 2^i · u_p · D_ip

where ``table`` holds what does not depend on the data. A padded tap has q = 0, which adds nothing; that its value is
not m but the padding is a matter of the table too, which therefore differs between the inside and the borders
(`borders`). This is the bitserial decomposition of Zhou et al., DoReFa-Net (arXiv:1606.06160, eq. 3), in
the exclusive-or form of Rastegari et al., XNOR-Net (arXiv:1603.05279, section 3.2).
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import tvm
from tvm import te, tirx

from .bitpack import pack_decisions
from .bits import WORD_BITS, pack_bits, pack_digits, unpack_digits, word_count
from .bitserial_tile import pixel_of, tile_sums
from .borders import FewLevelParams, border_classes, class_of, offset_table
from .byte_counts import count_by_bytes, run_of
from .conv2d import conv2d_reference
from .int8_conv2d import FewLevelProblem
from .machine import Machine
from .operators import Sample, operator_attrs, register_knobs, register_operator, te_function
from .schedules.cpu.skip_rows import rows_inside
from .schedules.cpu.tile import TileKnobs, TileLoops
from .schedules.cuda.bitserial import BitserialGpuKnobs
from .window import extents, padded_window, reduce_axes, stage


@dataclass(frozen=True, kw_only=True)
class BitserialParams(FewLevelParams):
    """A bitserial convolution apart from its data: r is ``step``, m is ``offset``.

    Attributes
    ----------
    activation_bits : int
        Binary digits of ``q``.
    bit_planes : tuple of int
        u, one for each weight plane.
    skips_rows : bool
        Kernel rows that lie outside the plane are passed over: ``D`` and P are without them. For tiles of one row.
    """

    activation_bits: int = 1
    bit_planes: tuple[int, ...] = (1,)
    skips_rows: bool = False

    counts_weights: ClassVar[bool] = True
    """Whether D has the weights' own ones in it."""

    @property
    def words(self) -> int:
        """Words of one digit of one group's channels."""
        return word_count(self.channels // self.conv.groups)

    def in_tile(self, tile: TileKnobs | BitserialGpuKnobs, machine: Machine) -> "BitserialParams":
        """The same in this tile on this machine."""
        if isinstance(tile, BitserialGpuKnobs):
            kind = BitserialParams if tile.counts_weights else CommonOnesParams
            return kind(**{field.name: getattr(self, field.name) for field in fields(self)})
        return dataclasses.replace(self, skips_rows=tile.tile_h == 1 and machine.counts_words)


@dataclass(frozen=True, kw_only=True)
class CommonOnesParams(BitserialParams):
    """The same for sums of ``popc(a) − 2 · popc(a & w)`` in place of D, see `bitserial_tile`."""

    counts_weights: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class BitserialProblem(FewLevelProblem):
    """A convolution of packed bits; ``packed`` says that its result is bits again."""

    layer: BitserialParams
    packed: bool = False

    @property
    def loops(self) -> TileLoops:
        """As the register tile sees it: one step is one word."""
        params, conv = self.layer, self.layer.conv
        loops = self.tile_loops(params.words, 4)
        return dataclasses.replace(
            loops,
            strip_row_bytes=loops.strip_row_bytes * params.activation_bits * conv.groups,
            weight_bytes=loops.weight_bytes * len(params.bit_planes),
            pixel_sums=params.activation_bits,
            vector_sums=len(params.bit_planes),
            panel_multiple=WORD_BITS if self.packed else 1,
        )


@dataclass(frozen=True, kw_only=True)
class BitserialKnobs(TileKnobs):
    """Knobs of the register tile of popcounts."""

    def cycles(self, problem: BitserialProblem, machine: Machine) -> float:
        """Of all groups and the whole batch."""
        return machine.popcount_cost * super().cycles(problem, machine)


def bitserial_conv2d_reference(words: np.ndarray, signs: np.ndarray, params: BitserialParams) -> np.ndarray:
    """Slow, obvious: unpack, multiply, add.

    Parameters
    ----------
    words : ndarray, (n, h, w, groups · activation_bits · words), uint32
        As `bitpack` leaves them.
    signs : ndarray, (planes, o, c / groups, kh, kw), bool
        True for +1.

    Returns
    -------
    ndarray, (n, oh, ow, o), int32
    """
    groups = params.conv.groups
    parts = np.split(words, groups, axis=-1)
    per_group = params.channels // groups
    levels = np.concatenate([unpack_digits(p, per_group, params.activation_bits) for p in parts], axis=-1)
    data = (params.step * levels + params.offset - params.padding_value).astype(np.float32)
    weight = weight_values(signs, params.bit_planes).astype(np.float32)
    # The convolution pads with zeros: padding_value is taken from every value and its product added again.
    inside = conv2d_reference(data, weight, params.conv)
    constant = params.padding_value * weight.astype(np.int64).sum((1, 2, 3))
    return np.rint(inside.astype(np.float64)).astype(np.int32) + constant.astype(np.int32)


def weight_values(signs: np.ndarray, planes: tuple[int, ...]) -> np.ndarray:
    """The integers that the planes of ``signs`` (planes, o, ...) stand for, int64."""
    return np.tensordot(np.array(planes), np.where(signs, 1, -1), axes=1)


def pack_signs(signs: np.ndarray, panel: int) -> np.ndarray:
    """Pack bool (planes, o, c / groups, kh, kw) into uint32 (panels, kh, kw, words, planes, panel)."""
    planes, o = signs.shape[:2]
    padded = np.zeros((planes, -(-o // panel) * panel, *signs.shape[2:]), bool)
    padded[:, :o] = signs
    words = pack_bits(np.moveaxis(padded, 2, -1))
    panels = words.reshape(planes, -1, panel, *words.shape[2:])
    return np.ascontiguousarray(panels.transpose(1, 3, 4, 5, 0, 2))


def border_table(signs: np.ndarray, params: BitserialParams, height: int, width: int) -> np.ndarray:
    """What a result holds beside its popcounts, int32 (row classes, column classes, o)."""
    ones = np.tensordot(np.array(params.bit_planes), signs.sum((2, 4)), axes=1)
    rows = border_classes(params, height, width)[0]
    counted = (rows if params.skips_rows else np.ones_like(rows)).astype(np.int64) @ ones.T
    highest = 2**params.activation_bits - 1 if params.counts_weights else 0
    offsets = offset_table(weight_values(signs, params.bit_planes), params, height, width)
    return (params.step * highest * counted[:, None] + offsets).astype(np.int32)


def bitserial_conv2d(
    words: te.Tensor,
    weight: te.Tensor,
    table: te.Tensor,
    params: BitserialParams,
    tile: TileKnobs | BitserialGpuKnobs,
    attrs: dict[str, str],
    bytewise: bool = False,
) -> te.Tensor:
    """Convolve packed activations with packed weights.

    Parameters
    ----------
    words : Tensor, (n, h, w, groups · activation_bits · words), uint32
    weight : Tensor, (panels, kh, kw, words, planes, panel), uint32
        From `pack_signs` with ``panel = tile.panel``.
    table : Tensor, (row classes, column classes, o), int32
        From `border_table`.
    bytewise : bool
        Count byte by byte, see `byte_counts`: for processors without a popcount of 32-bit lanes.

    Returns
    -------
    Tensor, (n, oh, ow, o), int32
    """
    h, w = (int(extent) for extent in words.shape[1:3])
    oh, ow = params.conv.output_size(h, w)
    differing = _sums(words, weight, params, tile, attrs, bytewise)

    def total(b: tirx.Var, y: tirx.Var, x: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        rows, columns = class_of(params, h, w, y, x)
        return table[rows, columns, o] - params.step * differing(b, y, x, o)

    return te.compute(extents(words.shape[0], oh, ow, params.conv.out_channels), total, name="total")


def _sums(
    words: te.Tensor,
    weight: te.Tensor,
    params: BitserialParams,
    tile: TileKnobs | BitserialGpuKnobs,
    attrs: dict[str, str],
    bytewise: bool,
) -> Callable[..., tvm.ir.Expr]:
    """Σ_i Σ_p 2^i · u_p · D_ip as a function of the output."""
    if isinstance(tile, BitserialGpuKnobs):
        sums = tile_sums(words, weight, params, tile, attrs)
        plane = params.conv.output_size(int(words.shape[1]), int(words.shape[2]))
        return lambda b, y, x, o: sums[pixel_of(plane, b, y, x), o]
    count = popcounts(words, weight, params, tile, attrs, bytewise)
    return lambda *at: weighted(count, params, *at)


def weighted(count: te.Tensor, params: BitserialParams, *at: tirx.Var) -> tvm.ir.Expr:
    """Σ_i Σ_p 2^i · u_p · D_ip at one output."""
    b, y, x, o = at
    terms = [
        (unit << i) * count[b, y, x, i, p, o]
        for i in range(params.activation_bits)
        for p, unit in enumerate(params.bit_planes)
    ]
    return sum(terms[1:], terms[0])


def popcounts(
    words: te.Tensor,
    weight: te.Tensor,
    params: BitserialParams,
    tile: TileKnobs,
    attrs: dict[str, str],
    bytewise: bool,
) -> te.Tensor:
    """Differing bits under each window.

    int32 (n, rows and columns rounded up to whole tiles, activation_bits, planes, panels · panel).
    """
    conv = params.conv
    n, h, w, _ = words.shape
    panels, kh, kw, per_digit, planes, panel = (int(extent) for extent in weight.shape)
    rows, cols = tile.round_up(*conv.output_size(int(h), int(w)))
    window = words
    if not (conv.reads_in_place and (rows, cols) == conv.output_size(int(h), int(w))):
        window = padded_window(words, conv.window_size(rows, cols), conv.padding, 0)
    panels_per_group = panels // conv.groups

    def bits(at: tuple[tirx.Var, ...], y: tirx.Var, x: tirx.Var, c: tvm.ir.Expr) -> tvm.ir.Expr:
        """The exclusive or of one word with one of the weights, at kernel row y, column x, word c."""
        b, row, col, i, p, o = at
        word = i * per_digit + c
        if conv.groups > 1:
            word += o // (panels_per_group * panel) * (params.activation_bits * per_digit)
        pixel = (row * conv.stride[0] + y * conv.dilation[0], col * conv.stride[1] + x * conv.dilation[1])
        return window[(b, *pixel, word)] ^ weight[o // panel, y, x, c, p, o % panel]

    shape = extents(n, rows, cols, params.activation_bits, planes, panels * panel)
    # A single word is counted faster as a whole, and a single lane is no vector.
    if bytewise and run_of(kh, kw, per_digit) != (1, 1, 1) and tile.lanes > 1:
        return count_by_bytes(bits, shape, (kh, kw, per_digit), attrs)
    if params.skips_rows:
        attrs = attrs | rows_inside(conv.stride[0], conv.dilation[0], conv.padding[0], int(h))
    ry, rx, rc = reduce_axes(ry=kh, rx=kw, rc=per_digit)

    def differing(*at: tirx.Var) -> tvm.ir.Expr:
        bits_apart = tirx.popcount(bits(at, ry, rx, rc)).astype("int32")
        if params.skips_rows:
            row = at[1] * conv.stride[0] + ry * conv.dilation[0] - conv.padding[0]
            bits_apart = tirx.Select(tirx.all(row >= 0, row < h), bits_apart, tirx.const(0, "int32"))
        return te.sum(bits_apart, axis=[ry, rx, rc])

    return te.compute(shape, differing, name="bitserial_conv2d", attrs=attrs)


def packed_limits(table: np.ndarray, step: int, at: np.ndarray, panel: int) -> np.ndarray:
    """The bit ``total >= at`` as ``Σ 2^i · u_p · D_ip < limit``, for `bitserial_conv2d_packed`.

    Parameters
    ----------
    table : ndarray, (row classes, column classes, o), int32
    at : ndarray, (o,), float64
        Infinite where the bit does not depend on the data.
    panel : int
        Output channels of a tile, a multiple of 32.

    Returns
    -------
    ndarray, (row classes, column classes, panels · panel), int32
        Behind the last channel nothing is less.
    """
    low, high = -(2**30), 2**30
    limits = np.floor((table - at) / step) + 1
    channels = -(-table.shape[2] // panel) * panel
    padded = np.full((*table.shape[:2], channels), low, np.int32)
    padded[..., : table.shape[2]] = np.clip(limits, low, high).astype(np.int32)
    return padded


def bitserial_conv2d_packed(
    words: te.Tensor,
    weight: te.Tensor,
    limits: te.Tensor,
    params: BitserialParams,
    tile: TileKnobs | BitserialGpuKnobs,
    attrs: dict[str, str],
    bytewise: bool = False,
) -> te.Tensor:
    """Convolve, compare with a limit per output channel, and pack the decisions; nothing else leaves the registers.

    Parameters
    ----------
    words, weight
        As for `bitserial_conv2d`; ``tile.panel`` is a multiple of 32.
    limits : Tensor, (row classes, column classes, panels · panel), int32
        From `packed_limits`.

    Returns
    -------
    Tensor, (n, oh, ow, words), uint32
    """
    h, w = (int(extent) for extent in words.shape[1:3])
    oh, ow = params.conv.output_size(h, w)
    if isinstance(tile, BitserialGpuKnobs):
        return _packed_sums(_sums(words, weight, params, tile, attrs, bytewise), words, limits, params)
    count = popcounts(words, weight, params, tile, attrs, bytewise)
    compared = te.compute(
        (*count.shape[:3], count.shape[5]),
        lambda *at: weighted(count, params, *at),
        name="weighted",
        attrs=stage("weighted"),
    )

    def passes(b: tirx.Var, y: tirx.Var, x: tirx.Var, word: tirx.Var, j: tirx.Var) -> tvm.ir.Expr:
        rows, columns = class_of(params, h, w, tirx.min(y, oh - 1), tirx.min(x, ow - 1))
        channel = word * WORD_BITS + j
        return compared[b, y, x, channel] < limits[rows, columns, channel]

    *whole, channels = compared.shape
    packed = pack_decisions((*whole, channels // WORD_BITS), passes, stage("pack"))
    shape = extents(words.shape[0], oh, ow, word_count(params.conv.out_channels))
    if [int(n) for n in packed.shape[1:]] == [int(n) for n in shape[1:]]:
        return packed
    return te.compute(shape, lambda *at: packed[at], name="crop")


def _packed_sums(
    differing: Callable[..., tvm.ir.Expr], words: te.Tensor, limits: te.Tensor, params: BitserialParams
) -> te.Tensor:
    """The bits ``differing < limits``, packed."""
    h, w = (int(extent) for extent in words.shape[1:3])
    shape = extents(words.shape[0], *params.conv.output_size(h, w), word_count(params.conv.out_channels))

    def passes(b: tirx.Var, y: tirx.Var, x: tirx.Var, word: tirx.Var, j: tirx.Var) -> tvm.ir.Expr:
        rows, columns = class_of(params, h, w, y, x)
        channel = word * WORD_BITS + j
        return differing(b, y, x, channel) < limits[rows, columns, channel]

    return pack_decisions(shape, passes, stage("pack"))


def make_bitserial_conv2d(
    problem: BitserialProblem,
    knobs: BitserialKnobs | BitserialGpuKnobs,
    machine: Machine,
    rng: np.random.Generator,
) -> Sample:
    """`bitserial_conv2d`, or its packed form, alone."""
    params, conv = problem.layer.in_tile(knobs, machine), problem.layer.conv
    groups, per_group = conv.groups, problem.layer.channels // conv.groups
    shape = (problem.batch, problem.height, problem.width, groups, per_group)
    levels = rng.integers(0, 2**params.activation_bits, shape)
    words = [pack_digits(levels[..., group, :], params.activation_bits) for group in range(groups)]
    data = np.concatenate(words, axis=-1)
    signs = rng.random((len(params.bit_planes), conv.out_channels, per_group, *conv.kernel)) < 0.5
    table = border_table(signs, params, problem.height, problem.width)
    how: dict[str, Any] = {
        "params": params,
        "tile": knobs,
        "attrs": operator_attrs("bitserial_conv2d", problem, knobs),
    }
    how["bytewise"] = not machine.counts_words
    packed = pack_signs(signs, knobs.panel)
    if not problem.packed:
        arrays = (data, packed, table)
        func = te_function(bitserial_conv2d, arrays, **how)
        return Sample(func, arrays, lambda: bitserial_conv2d_reference(data, signs, params))
    at = rng.integers(-9, 9, conv.out_channels).astype(np.float64)
    arrays = (data, packed, packed_limits(table, params.step, at, knobs.panel))
    func = te_function(bitserial_conv2d_packed, arrays, **how)
    return Sample(func, arrays, lambda: pack_bits(bitserial_conv2d_reference(data, signs, params) >= at))


register_operator("bitserial_conv2d", BitserialProblem)
register_knobs("llvm", "bitserial_conv2d", BitserialKnobs, make_bitserial_conv2d)
register_knobs("cuda", "bitserial_conv2d", BitserialGpuKnobs, make_bitserial_conv2d)
