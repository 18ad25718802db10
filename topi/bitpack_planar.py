"""Pack decisions about NCHW into words: a vector of pixels collects one channel after the other as its bits.

Compared with a transpose to NHWC and `bitpack`, nothing is stored between. Where the pixels are no multiple of a tile,
the last tile overlaps the one before it, so that no value is padded and no condition is in the way of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from .bitpack import Thresholds, bitpack_reference, flip_words, threshold_rows
from .bits import WORD, WORD_BITS, bit_of, word_count
from .knobs import KnobSet
from .machine import Machine
from .operators import Sample, register_operator
from .problem import Problem
from .window import extents

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_VECTORS = 4
"""Vectors of pixels in a tile: cache lines that lie side by side in each channel."""


def bitpack_planar_reference(data: np.ndarray, how: Thresholds, groups: int = 1) -> np.ndarray:
    """Pack float32 (n, c, h, w) into uint32 (n, h, w, groups · words), slowly."""
    return bitpack_reference(data.transpose(0, 2, 3, 1), how, groups)


@dataclass(frozen=True, kw_only=True)
class PlanarProblem(Problem):
    """Planes of ``height`` × ``width`` of ``channels``, in ``groups`` that begin with a word of their own."""

    channels: int
    height: int
    width: int
    groups: int = 1
    flips: bool = False

    @property
    def pixels(self) -> int:
        """Of a plane."""
        return self.height * self.width


@dataclass(frozen=True, kw_only=True)
class PlanarKnobs(KnobSet):
    """Pixels of a tile: ``vectors`` of ``lanes``."""

    lanes: int
    vectors: int

    @classmethod
    def space(cls, problem: PlanarProblem, machine: Machine) -> Iterator[Self]:
        """Every tile that fits the plane."""
        for vectors in range(1, MAX_VECTORS + 1):
            if vectors * machine.lanes <= problem.pixels:
                yield cls(lanes=machine.lanes, vectors=vectors)

    @classmethod
    def default(cls, problem: PlanarProblem, machine: Machine) -> Self | None:
        """The tile by which the fewest pixels are packed twice; ``None`` where the plane fills no vector."""
        space = cls.space(problem, machine)
        return min(space, key=lambda k: (k.cycles(problem, machine), -k.vectors), default=None)

    def cycles(self, problem: PlanarProblem, machine: Machine) -> float:
        """Of the whole batch: a load, a comparison, a selection and a union for each channel."""
        tiles = -(-problem.pixels // (self.vectors * self.lanes))
        return machine.cycles(4 * problem.batch * tiles * self.vectors * problem.channels)


def bitpack_planar(
    shape: tuple[int | tirx.Var, ...], groups: int, flips: bool, tile: PlanarKnobs
) -> tirx.PrimFunc:
    """Build the packing of float32 NCHW of ``shape``, scheduled.

    Parameters
    ----------
    shape : (n, c, h, w)
        Only n may be symbolic; h · w is at least that of a tile.
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


def make_bitpack_planar(
    problem: PlanarProblem, knobs: PlanarKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`bitpack_planar` alone."""
    shape, groups = (problem.batch, problem.channels, problem.height, problem.width), problem.groups
    data, at = rng.standard_normal(shape, np.float32), rng.standard_normal(problem.channels, np.float32)
    how = Thresholds(at=at, flip=(rng.random(problem.channels) < 0.5) & problem.flips)
    flips = (flip_words(how.flip, groups),) if problem.flips else ()
    func = bitpack_planar(shape, groups, problem.flips, knobs)
    arrays = (data, threshold_rows(at, groups), *flips)
    return Sample(func, arrays, lambda: bitpack_planar_reference(data, how, groups))


register_operator("bitpack_planar", PlanarProblem, PlanarKnobs, make_bitpack_planar)
