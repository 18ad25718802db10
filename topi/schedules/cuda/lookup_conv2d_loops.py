"""The loops of `topi.lookup_conv2d` on a GPU: a tile of planes in shared memory, one list after the other over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from ...gpu import WARP
from ...window import extents, stage
from ..registry import register_body
from .copy_words import commit_copies, copy_column, copy_words, wait_for_block, wait_for_copies

if TYPE_CHECKING:
    from ...conv2d import Conv2dParams
    from ...sparse_lists import ListedFilters, Stack
    from .lookup import GpuLookupKnobs


@dataclass(frozen=True)
class _Layer:
    """What every step of the loops needs to know.

    Attributes
    ----------
    batch : Expr
        Of 32 bits.
    size : tuple of int
        Height and width of the input.
    longest : int
        Steps of all lists that a block reads at once.
    """

    params: Conv2dParams
    stack: Stack
    knobs: GpuLookupKnobs
    batch: tvm.ir.Expr
    channels: int
    size: tuple[int, int]
    longest: int

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of the result."""
        return self.params.output_size(*self.size)

    @property
    def row(self) -> int:
        """Places of an input row."""
        return self.stack.phases * self.stack.pitch

    @property
    def extents(self) -> tuple[int | tvm.ir.Expr, ...]:
        """Of all loops: tiles, groups of filters, threads, and filters and pixels of a thread."""
        knobs, rows = self.knobs, self.stack.rows
        tiles = tirx.floordiv(self.batch * self.stack.period + (rows - 1), rows) * knobs.columns
        groups = self.padded_filters // knobs.block_filters
        return tiles, groups, knobs.threads, knobs.filters, knobs.pixels

    @property
    def padded_filters(self) -> int:
        """Filters of whole blocks."""
        return -(-self.params.out_channels // self.knobs.block_filters) * self.knobs.block_filters


def lookup_conv2d_loops(
    shape: tuple[int | tirx.Var, ...],
    filters: ListedFilters,
    params: Conv2dParams,
    tile: GpuLookupKnobs,
    attrs: dict[str, str],
) -> tirx.PrimFunc:
    """The body of `topi.lookup_conv2d.lookup_conv2d`; arguments as there."""
    batch, (channels, height, width) = shape[0], (int(n) for n in shape[1:])
    stack, (oh, ow) = tile.stack(params, height, width), params.output_size(height, width)
    count = tirx.IntImm("int32", batch) if isinstance(batch, int) else batch.astype("int32")
    layer = _Layer(params, stack, tile, count, channels, (height, width), filters.longest(tile.block_filters))
    tiles, groups, threads = layer.extents[:3]
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True})
        data = build.arg("data", build.buffer(extents(*shape), "float32"))
        lists = [
            build.arg(name, build.buffer(extents(array.size), "int32"))
            for name, array in zip(("entries", "first"), filters.arrays, strict=True)
        ]
        result = build.arg("result", build.buffer(extents(batch, params.out_channels, oh, ow), "float32"))
        with build.sblock("root"):
            held = build.sblock_alloc_buffer([tile.filters * tile.pixels], "float32", scope="local")
            with (
                build.thread_binding(0, tiles, "blockIdx.x") as x,
                build.thread_binding(0, groups, "blockIdx.y") as y,
                build.thread_binding(0, threads, "threadIdx.x") as t,
            ):
                with build.sblock("lookup_conv2d"):
                    at = [build.axis.spatial(e, v) for e, v in zip(layer.extents, (x, y, t), strict=False)]
                    build.reads(
                        data[0:batch, 0:channels, 0:height, 0:width],
                        *(each[0 : each.shape[0]] for each in lists),
                    )
                    build.writes(held[0 : tile.filters * tile.pixels])
                    build.sblock_attr(attrs)
                    _add_up(data, lists, held, layer, at)
                _crop(held, result, layer, (x, y, t))
    return builder.get()


def _thread(layer: _Layer, at: tuple[tvm.ir.Expr, ...] | list[tvm.ir.Expr]) -> tuple[tvm.ir.Expr, ...]:
    """First output row and column of a block; first filter of a thread, and its first pixel."""
    (x, y, t), knobs = at, layer.knobs
    warp, lane = tirx.floordiv(t, WARP), tirx.floormod(t, WARP)
    top = tirx.floordiv(x, knobs.columns) * layer.stack.rows
    left = tirx.floormod(x, knobs.columns) * layer.stack.columns
    o = y * knobs.block_filters + tirx.floordiv(warp, knobs.beside) * knobs.filters
    return top, left, o, tirx.floormod(warp, knobs.beside) * (knobs.pixels * WARP) + lane


def _add_up(
    data: tirx.Buffer, lists: list[tirx.Buffer], held: tirx.Buffer, layer: _Layer, at: list[tirx.Var]
) -> None:
    """All sums of a thread, block of channels by block of channels."""
    knobs, stack = layer.knobs, layer.stack
    place = build.sblock_alloc_buffer([stack.size(knobs.block)], "float32", scope="shared.dyn")
    near = None
    if layer.longest <= knobs.listed:
        near = build.sblock_alloc_buffer([4 * (knobs.listed + 1)], "int32", scope="shared.dyn")
    step, ahead = (build.sblock_alloc_buffer([4], "int32", scope="local") for _ in range(2))
    top, left, o, first = (build.bind(each) for each in _thread(layer, at))
    for i in range(knobs.filters * knobs.pixels):
        build.buffer_store(held, tirx.const(0, "float32"), [i])
    strided = layer.params.stride != (1, 1)
    bases = [build.bind(_base(layer, first + j * WARP)) for j in range(knobs.pixels if strided else 1)]
    chunks = -(-layer.channels // knobs.block)
    with build.serial(0, chunks) as chunk:
        if chunks > 1:
            wait_for_block()
        _fill(data, place, layer, at[2], (top, left), chunk * knobs.block)
        of_chunk = build.bind(chunk * layer.padded_filters)
        source, low = lists[0], tirx.IntImm("int32", 0)
        if near is not None:
            low = build.bind(lists[1][of_chunk + at[1] * knobs.block_filters])
            count = build.bind(lists[1][of_chunk + (at[1] + 1) * knobs.block_filters] - low)
            _bring_lists(lists[0], near, low, count, at[2], knobs.threads)
            source = near
        commit_copies()
        wait_for_copies()
        for filter_ in range(knobs.filters):
            begin, end = (build.bind(lists[1][of_chunk + o + (filter_ + i)]) for i in range(2))
            build.buffer_store(ahead, _step(source, begin - low), [tirx.Ramp(0, 1, 4)])
            with build.serial(0, end - begin) as i:
                build.buffer_store(step, tirx.BufferLoad(ahead, [tirx.Ramp(0, 1, 4)]), [tirx.Ramp(0, 1, 4)])
                build.buffer_store(ahead, _step(source, begin - low + i + 1), [tirx.Ramp(0, 1, 4)])
                for entry in (0, 2):
                    factor = build.bind(tirx.reinterpret("float32", step[entry + 1]))
                    for j in range(knobs.pixels):
                        base = bases[j] if strided else bases[0] + j * WARP
                        held_at = filter_ * knobs.pixels + j
                        value = held[held_at] + factor * place[base + step[entry]]
                        build.buffer_store(held, value, [held_at])


def _bring_lists(
    entries: tirx.Buffer,
    near: tirx.Buffer,
    low: tvm.ir.Expr,
    count: tvm.ir.Expr,
    t: tvm.ir.Expr,
    threads: int,
) -> None:
    """Begin to copy the lists of a block's filters, ``count`` steps from ``low`` on."""
    with build.serial(0, tirx.floordiv(count + (threads - 1), threads)) as turn:
        at = turn * threads + t
        with build.If(at < count), build.Then():
            copy_words(near[at * 4], entries[((low + at) * 4).astype("int64")], tirx.const(True, "bool"), 4)


def _step(entries: tirx.Buffer, at: tvm.ir.Expr) -> tvm.ir.Expr:
    return tirx.BufferLoad(entries, [tirx.Ramp(at * 4, 1, 4)])


def _base(layer: _Layer, lane: tvm.ir.Expr) -> tvm.ir.Expr:
    """Where the window of a lane's output begins."""
    if layer.params.stride == (1, 1):
        return lane
    span = layer.stack.span
    return tirx.floordiv(lane, span) * (layer.params.stride[0] * layer.row) + tirx.floormod(lane, span)


def _fill(
    data: tirx.Buffer,
    place: tirx.Buffer,
    layer: _Layer,
    t: tvm.ir.Expr,
    corner: tuple[tvm.ir.Expr, tvm.ir.Expr],
    low: tvm.ir.Expr,
) -> None:
    """Copy the padded planes of the channels from ``low`` on: warps side by side over places, and over channels."""
    knobs, stack, params = layer.knobs, layer.stack, layer.params
    (top, left), (down, across), (height, width) = corner, params.stride, layer.size
    across_warps = max(
        n for n in range(1, knobs.warps + 1) if knobs.warps % n == 0 and (n - 1) * WARP < stack.plane
    )
    threads, deep = across_warps * WARP, knobs.warps // across_warps
    within, depth = tirx.floormod(t, threads), tirx.floordiv(t, threads)
    count = tirx.min(tirx.IntImm("int32", knobs.block), layer.channels - low)
    with build.serial(0, -(-stack.plane // threads)) as turn:
        at = build.bind(turn * threads + within)
        row, rest = build.bind(tirx.floordiv(at, layer.row)), build.bind(tirx.floormod(at, layer.row))
        down_at = build.bind(top * down + row)
        image = build.bind(tirx.floordiv(down_at, stack.period * down))
        y = build.bind(tirx.floormod(down_at, stack.period * down) - params.padding[0])
        phase = tirx.floordiv(rest, stack.pitch)
        x = build.bind((left + tirx.floormod(rest, stack.pitch)) * across + phase - params.padding[1])
        inside = build.bind(
            tirx.all(row < stack.window_rows, image < layer.batch, y >= 0, y < height, x >= 0, x < width)
        )
        image, y, x = (build.bind(tirx.if_then_else(inside, each, 0)) for each in (image, y, x))
        with build.If(tirx.all(at < stack.plane, depth < count)), build.Then():
            source = data[tuple(each.astype("int64") for each in (image, low + depth, y, x))]
            many = tirx.floordiv(count - depth + (deep - 1), deep)
            steps = deep * stack.plane, deep * height * width
            copy_column(place[depth * stack.plane + at], source, inside, many, steps)


def _crop(held: tirx.Buffer, result: tirx.Buffer, layer: _Layer, at: tuple[tirx.Var, ...]) -> None:
    """What is the result of a thread's sums, as a block of its own: epilogues are put into it (`epilogue`)."""
    knobs, stack, (oh, ow) = layer.knobs, layer.stack, layer.outputs
    with build.unroll(0, knobs.filters) as filter_, build.unroll(0, knobs.pixels) as j, build.sblock("crop"):
        loops = [*at, filter_, j]
        *thread, filter_, j = (build.axis.spatial(e, v) for e, v in zip(layer.extents, loops, strict=True))
        build.reads(held[0 : knobs.filters * knobs.pixels])
        build.writes(result[tuple(slice(0, n) for n in result.shape)])
        build.sblock_attr(stage("crop"))
        top, left, o, first = _thread(layer, thread)
        lane = first + j * WARP
        row, x = tirx.floordiv(lane, stack.span), tirx.floormod(lane, stack.span)
        image, y = (divide(top + row, stack.period) for divide in (tirx.floordiv, tirx.floormod))
        inside = [row < stack.rows, image < layer.batch, y < oh, x < stack.columns, left + x < ow]
        with build.If(tirx.all(*inside, o + filter_ < layer.params.out_channels)), build.Then():
            place = [each.astype("int64") for each in (image, o + filter_, y, left + x)]
            build.buffer_store(result, held[filter_ * knobs.pixels + j], place)


register_body("cuda", "lookup_conv2d", lookup_conv2d_loops)
