"""Pack decisions about values into words: one bit for each channel and binary digit."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import te, tirx

from .bits import WORD, WORD_BITS, pack_bits, pack_digits, word_count
from .machine import Machine
from .operators import Sample, operator_attrs, register_knobs, register_operator, te_function
from .problem import Problem
from .schedules.cpu.rows import RowKnobs
from .schedules.cuda.words import WordKnobs
from .window import extents, reduce_axes, stage


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """``bit = (x >= at) != flip``, channel by channel.

    Every comparison has this form: ``x > t`` is ``x >= t'`` with t' the next larger float, and ``x <= t`` is not
    ``x > t``. NaN is below everything: its bit is ``flip``.

    Attributes
    ----------
    at : ndarray, (c,), float32
    flip : ndarray, (c,), bool
    """

    at: np.ndarray
    flip: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Grid:
    """``q = clip(round(x / divisor · scale + shift), low, high) − low``, halves to even, as PyTorch and ONNX round.

    NaN becomes an unspecified level.
    """

    scale: float = 1.0
    shift: float = 0.0
    divisor: float = 1.0
    low: int = 0
    high: int

    @property
    def digits(self) -> int:
        """Binary digits of ``q``."""
        return (self.high - self.low).bit_length()


@dataclass(frozen=True, kw_only=True)
class BitpackProblem(Problem):
    """A plane of ``channels`` to bits, group by group; ``digits`` of a grid, or 0 for comparisons with thresholds."""

    height: int
    width: int
    channels: int
    groups: int = 1
    digits: int = 0
    flips: bool = False

    @property
    def operations(self) -> float:
        """Of a row: two vectors of sixteen for each word, to load, compare and store, or to round as well."""
        words = self.groups * word_count(self.channels // self.groups) * max(1, self.digits)
        return float(self.width * words * (12 if self.digits else 6))


def bitpack_reference(data: np.ndarray, how: Thresholds | Grid, groups: int = 1) -> np.ndarray:
    """Pack float32 (n, h, w, c) into uint32 (n, h, w, groups · digits · words), slowly."""
    parts = []
    for group in np.split(np.arange(data.shape[-1]), groups):
        values = data[..., group]
        if isinstance(how, Thresholds):
            parts.append(pack_bits((values >= how.at[group]) != how.flip[group]))
        else:
            levels = np.rint(values / np.float32(how.divisor) * np.float32(how.scale) + np.float32(how.shift))
            levels = np.clip(levels, how.low, how.high).astype(np.int64) - how.low
            parts.append(pack_digits(levels, how.digits))
    return np.concatenate(parts, axis=-1)


def threshold_rows(at: np.ndarray, groups: int) -> np.ndarray:
    """Thresholds (c,) as `bitpack` reads them: (groups · words · 32,), infinite behind the last channel of a group."""
    per_group = at.size // groups
    rows = np.full((groups, word_count(per_group) * WORD_BITS), np.inf, np.float32)
    rows[:, :per_group] = at.reshape(groups, per_group)
    return rows.reshape(-1)


def flip_words(flip: np.ndarray, groups: int) -> np.ndarray:
    """Flips (c,) as words (groups · words,)."""
    return pack_bits(flip.reshape(groups, -1)).reshape(-1)


def bitpack(
    data: te.Tensor,
    limit: te.Tensor,
    flip: te.Tensor | None = None,
    *,
    grid: Grid | None = None,
    groups: int = 1,
    attrs: dict[str, str],
    tile: RowKnobs | WordKnobs | None = None,
) -> te.Tensor:
    """Pack float32 NHWC.

    Parameters
    ----------
    data : Tensor, (n, h, w, c), float32
    limit : Tensor, (groups · words · 32,)
        `threshold_rows`, float32; for a ``grid`` 32 zeros, int32.
    flip : Tensor, (groups · words,), uint32, optional
        From `flip_words`.
    tile : RowKnobs or WordKnobs, optional
        Where each bit is decided by a thread of its own, that one flips it too.

    Returns
    -------
    Tensor, (n, h, w, groups · digits · words), uint32
    """
    n, h, w, c = data.shape
    per_group, digits = int(c) // groups, grid.digits if grid else 1
    words = word_count(per_group)
    left = _digits(data, grid, groups) if grid or per_group % WORD_BITS else data

    def value(b: tirx.Var, y: tirx.Var, x: tirx.Var, word: tirx.Var, j: tirx.Var) -> tvm.ir.Expr:
        if left is data:
            return data[b, y, x, word * WORD_BITS + j]
        return left[b, y, x, word // words, word % words * WORD_BITS + j]

    def bound(word: tirx.Var, j: tirx.Var) -> tvm.ir.Expr:
        return limit[j] if grid else limit[word * WORD_BITS + j]

    compare, turned = tirx.LT if grid else tirx.GE, flip if isinstance(tile, WordKnobs) else None

    def decision(b: tirx.Var, y: tirx.Var, x: tirx.Var, word: tirx.Var, j: tirx.Var) -> tvm.ir.Expr:
        decided = compare(value(b, y, x, word, j), bound(word, j))
        if turned is None:
            return decided
        return tirx.NE(decided.astype(WORD), (turned[word] >> j.var.astype(WORD)) & tirx.const(1, WORD))

    packed = pack_decisions(extents(n, h, w, groups * digits * words), decision, attrs)
    return packed if flip is None or turned is not None else flipped(packed, flip)


def pack_decisions(
    shape: tuple[tvm.ir.Expr, ...], decision: Callable[..., tvm.ir.Expr], attrs: dict[str, str]
) -> te.Tensor:
    """Words of ``shape`` (n, h, w, words) whose bit j is ``decision(b, y, x, word, j)``."""
    (j,) = reduce_axes(j=WORD_BITS)
    one, none = tirx.const(1, WORD), tirx.const(0, WORD)

    def word_of(*at: tirx.Var) -> tvm.ir.Expr:
        return te.sum(tirx.Select(decision(*at, j), one, none) << j.var.astype(WORD), axis=[j])

    return te.compute(shape, word_of, name="bitpack", attrs=attrs)


def flipped(packed: te.Tensor, flip: te.Tensor) -> te.Tensor:
    """``packed`` with the bits of ``flip`` (words,) turned."""
    return te.compute(packed.shape, lambda *at: packed[at] ^ flip[at[-1]], name="flip")


def _digits(data: te.Tensor, grid: Grid | None, groups: int) -> te.Tensor:
    """The values to compare, group by group and digit by digit, filled up to whole words.

    A digit stands in the sign bit of an int32, so that ``< 0`` reads it.
    """
    n, h, w, c = data.shape
    per_group, digits = int(c) // groups, grid.digits if grid else 1

    def value(b: tirx.Var, y: tirx.Var, x: tirx.Var, row: tirx.Var, at: tirx.Var) -> tvm.ir.Expr:
        element = data[b, y, x, row // digits * per_group + at]
        if grid is None:
            return tirx.if_then_else(at < per_group, element, tirx.const(0, "float32"))
        number = [tirx.const(x, "float32") for x in (grid.scale, grid.shift, grid.low, grid.high)]
        divided = element if grid.divisor == 1 else element / tirx.const(grid.divisor, "float32")
        rounded = tirx.nearbyint(divided * number[0] + number[1])
        level = (tirx.max(tirx.min(rounded, number[3]), number[2]) - number[2]).astype("int32")
        digit = level << (31 - row % digits).astype("int32")
        return tirx.if_then_else(at < per_group, digit, tirx.const(0, "int32"))

    width = word_count(per_group) * WORD_BITS
    shape = extents(n, h, w, groups * digits, width)
    return te.compute(shape, value, name="prepared", attrs=stage("prepared"))


def make_bitpack(
    problem: BitpackProblem, knobs: RowKnobs | WordKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`bitpack` alone."""
    shape, groups = (problem.batch, problem.height, problem.width, problem.channels), problem.groups
    data, at = rng.standard_normal(shape, np.float32), rng.standard_normal(problem.channels, np.float32)
    how = Thresholds(at=at, flip=(rng.random(problem.channels) < 0.5) & problem.flips)
    grid = Grid(scale=2.0**problem.digits, high=2**problem.digits - 1) if problem.digits else None
    arrays = [data, np.zeros(WORD_BITS, np.int32) if grid else threshold_rows(at, groups)]
    if problem.flips:
        arrays.append(flip_words(how.flip, groups))
    attrs = operator_attrs("bitpack", problem, knobs)
    func = te_function(bitpack, arrays, grid=grid, groups=groups, attrs=attrs, tile=knobs)
    return Sample(func, tuple(arrays), lambda: bitpack_reference(data, grid or how, groups))


register_operator("bitpack", BitpackProblem)
register_knobs("llvm", "bitpack", RowKnobs, make_bitpack)
register_knobs("cuda", "bitpack", WordKnobs, make_bitpack)
