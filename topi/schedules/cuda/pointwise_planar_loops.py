"""The loops of `topi.pointwise_planar` on a GPU: steps of channels through shared memory, sums in registers.

Pixels of all images are one axis. Where there are few, groups of threads of a block sum up other channels each, and the
first adds up what the others hand over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from ...window import extents
from ..registry import register_body
from .copy_words import commit_copies, copy_words, wait_for_block, wait_for_copies
from .pointwise_planar import STAGES, VECTOR

if TYPE_CHECKING:
    from .pointwise_planar import GpuPointwiseKnobs


@dataclass(frozen=True)
class _Product:
    """What every step of the loops needs to know.

    ``source`` (n, channels, plane), ``weight`` (tiles, channels, atoms), ``target`` (n, atoms, plane), ``place`` the
    shared memory of a block; ``count`` pixels of all images, of 32 bits.
    """

    source: tirx.Buffer
    weight: tirx.Buffer
    target: tirx.Buffer
    place: tirx.Buffer
    count: tvm.ir.Expr
    channels: int
    atoms: int
    plane: int
    tile: GpuPointwiseKnobs

    @property
    def words(self) -> int:
        """Neighbouring pixels that are copied together."""
        return VECTOR if self.plane % VECTOR == 0 else 1

    @property
    def steps(self) -> int:
        """Of every slice."""
        return -(-self.channels // (self.tile.depth * self.tile.slices))

    def pixel(self, at: tvm.ir.Expr, inside: tvm.ir.Expr) -> tuple[tvm.ir.Expr, tvm.ir.Expr]:
        """Image and place of a pixel; of the first where it is not ``inside``."""
        known = tirx.if_then_else(inside, at, 0)
        return tirx.floordiv(known, self.plane).astype("int64"), tirx.floormod(known, self.plane).astype(
            "int64"
        )


def pointwise_planar_loops(
    shape: tuple[int | tirx.Var, ...],
    atoms: int,
    tile: GpuPointwiseKnobs,
    attrs: dict[str, str],
) -> tirx.PrimFunc:
    """The body of `topi.pointwise_planar.pointwise_planar`; arguments as there."""
    batch, (channels, height, width) = shape[0], (int(n) for n in shape[1:])
    plane, tiles = height * width, -(-atoms // tile.atoms)
    images = tirx.IntImm("int32", batch) if isinstance(batch, int) else batch.astype("int32")
    count = images * plane
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        data = build.arg("data", build.buffer(extents(*shape), "float32"))
        weight = build.arg("weight", build.buffer(extents(tiles, channels, tile.atoms), "float32"))
        result = build.arg("result", build.buffer(extents(batch, atoms, height, width), "float32"))
        with build.sblock("root"):
            source = build.decl_buffer(extents(batch, channels, plane), "float32", data=data.data)
            target = build.decl_buffer(extents(batch, atoms, plane), "float32", data=result.data)
            with (
                build.thread_binding(
                    0, tirx.floordiv(count + (tile.pixels - 1), tile.pixels), "blockIdx.x"
                ) as x,
                build.thread_binding(0, tiles, "blockIdx.y") as y,
                build.thread_binding(0, tile.threads, "threadIdx.x") as t,
                build.sblock("pointwise_planar"),
            ):
                build.sblock_attr(attrs)
                place = build.sblock_alloc_buffer([tile.shared], "float32", scope="shared.dyn")
                _tile(_Product(source, weight, target, place, count, channels, atoms, plane, tile), x, y, t)
    return builder.get()


def _tile(product: _Product, x: tirx.Var, y: tirx.Var, t: tirx.Var) -> None:
    """All sums of a block."""
    tile = product.tile
    sums = tile.thread_atoms * tile.thread_pixels
    held = build.sblock_alloc_buffer([sums], "float32", scope="local")
    fragments = [
        build.sblock_alloc_buffer([n], "float32", scope="local")
        for n in (tile.thread_atoms, tile.thread_pixels)
    ]
    first = build.bind(x * tile.pixels)
    group, mine = build.bind(tirx.floordiv(t, tile.group)), build.bind(tirx.floormod(t, tile.group))
    beside = tile.pixels // tile.thread_pixels
    column, row = build.bind(tirx.floormod(mine, beside)), build.bind(tirx.floordiv(mine, beside))
    for i in range(sums):
        build.buffer_store(held, tirx.const(0, "float32"), [i])
    for step in range(STAGES - 1):
        if step < product.steps:
            _load(product, step, (y, first, group, mine), step)
        commit_copies()
    with build.serial(0, product.steps) as step:
        wait_for_copies(STAGES - 2)
        ahead = step + (STAGES - 1)
        with build.If(ahead < product.steps), build.Then():
            _load(product, ahead, (y, first, group, mine), tirx.floormod(ahead, STAGES))
        commit_copies()
        start = build.bind((tirx.floormod(step, STAGES) * tile.slices + group) * tile.stage)
        with build.unroll(0, tile.depth) as k:
            _multiply(product, held, fragments, start, k, (row, column))
    if tile.slices > 1:
        _hand_over(product, held, group, mine)
    with build.If(group == 0), build.Then():
        _store(product, held, y, first, (row, column))


def _load(
    product: _Product,
    step: int | tvm.ir.Expr,
    at: tuple[tvm.ir.Expr, ...],
    stage: int | tvm.ir.Expr,
) -> None:
    """Begin to copy a step of this group's channels: weights, and behind them pixels."""
    (y, first, group, mine), tile, channels = at, product.tile, product.channels
    low = build.bind((group * product.steps + step) * tile.depth)
    start = build.bind((stage * tile.slices + group) * tile.stage)
    for source, words, width in (("weight", VECTOR, tile.atoms), ("pixels", product.words, tile.pixels)):
        many = width // words
        copies = tile.depth * many
        for turn in range(-(-copies // tile.group)):
            each = turn * tile.group + mine
            k, place = tirx.floordiv(each, many), tirx.floormod(each, many) * words
            c = low + k
            with build.If(each < copies), build.Then():
                if source == "weight":
                    inside = c < channels
                    known = tirx.if_then_else(inside, c, 0).astype("int64")
                    value = product.weight[y.astype("int64"), known, place.astype("int64")]
                    copy_words(product.place[start + k * tile.atoms + place], value, inside, words)
                else:
                    inside = tirx.all(c < channels, first + place < product.count)
                    image, pixel = product.pixel(first + place, inside)
                    known = tirx.if_then_else(inside, c, 0).astype("int64")
                    value = product.source[image, known, pixel]
                    to = start + tile.depth * tile.atoms + k * tile.pixels + place
                    copy_words(product.place[to], value, inside, words)


def _spread(tile: int, mine: int, which: tvm.ir.Expr, i: int) -> tvm.ir.Expr:
    """Where the vector of four from ``i`` on of a thread's rows or columns lies: vectors of neighbours side by side."""
    return i * (tile // mine) + which * VECTOR


def _multiply(
    product: _Product,
    held: tirx.Buffer,
    fragments: list[tirx.Buffer],
    start: tvm.ir.Expr,
    k: tvm.ir.Expr,
    mine: tuple[tvm.ir.Expr, tvm.ir.Expr],
) -> None:
    """Add the products of one channel."""
    tile = product.tile
    sides = (
        (start + k * tile.atoms, tile.atoms, tile.thread_atoms),
        (start + tile.depth * tile.atoms + k * tile.pixels, tile.pixels, tile.thread_pixels),
    )
    for fragment, which, (low, width, count) in zip(fragments, mine, sides, strict=True):
        for i in range(0, count, VECTOR):
            lanes = tirx.Ramp(low + _spread(width, count, which, i), 1, VECTOR)
            build.buffer_store(fragment, tirx.BufferLoad(product.place, [lanes]), [tirx.Ramp(i, 1, VECTOR)])
    for a in range(tile.thread_atoms):
        for p in range(tile.thread_pixels):
            at = a * tile.thread_pixels + p
            build.buffer_store(held, held[at] + fragments[0][a] * fragments[1][p], [at])


def _hand_over(product: _Product, held: tirx.Buffer, group: tvm.ir.Expr, mine: tvm.ir.Expr) -> None:
    """Add the sums of all groups, in those of the first."""
    tile, sums = product.tile, product.tile.thread_atoms * product.tile.thread_pixels
    wait_for_copies()
    with build.If(group > 0), build.Then():
        for i in range(sums):
            build.buffer_store(product.place, held[i], [((group - 1) * sums + i) * tile.group + mine])
    wait_for_block()
    with build.If(group == 0), build.Then():
        for other in range(tile.slices - 1):
            for i in range(sums):
                value = product.place[(other * sums + i) * tile.group + mine]
                build.buffer_store(held, held[i] + value, [i])


def _store(
    product: _Product,
    held: tirx.Buffer,
    y: tvm.ir.Expr,
    first: tvm.ir.Expr,
    mine: tuple[tvm.ir.Expr, tvm.ir.Expr],
) -> None:
    tile, (row, column), words = product.tile, mine, product.words
    for p in range(0, tile.thread_pixels, words):
        at = first + _spread(tile.pixels, tile.thread_pixels, column, p // VECTOR * VECTOR) + p % VECTOR
        inside = build.bind(at < product.count)
        image, pixel = product.pixel(at, inside)
        for a in range(tile.thread_atoms):
            atom = (
                y * tile.atoms
                + _spread(tile.atoms, tile.thread_atoms, row, a // VECTOR * VECTOR)
                + a % VECTOR
            )
            from_ = a * tile.thread_pixels + p
            with build.If(tirx.all(inside, atom < product.atoms)), build.Then():
                lanes = tirx.Ramp(pixel, 1, words) if words > 1 else pixel
                value = tirx.BufferLoad(held, [tirx.Ramp(from_, 1, words) if words > 1 else from_])
                build.buffer_store(product.target, value, [image, atom.astype("int64"), lanes])


register_body("cuda", "pointwise_planar", pointwise_planar_loops)
