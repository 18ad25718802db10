"""The loops of `topi.lookup_conv2d` on a CPU: filter by filter, the coefficients of one tile, its sums in registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from ...sparse_lists import Slab
from ...window import extents, stage
from ..registry import register_body

if TYPE_CHECKING:
    from ...conv2d import Conv2dParams
    from ...sparse_lists import SparseFilters
    from .lookup import LookupKnobs


def lookup_conv2d_loops(
    shape: tuple[int | tirx.Var, ...],
    filters: SparseFilters,
    params: Conv2dParams,
    tile: LookupKnobs,
    attrs: dict[str, str],
) -> tirx.PrimFunc:
    """The body of `topi.lookup_conv2d.lookup_conv2d`; arguments as there."""
    batch, (channels, height, width) = shape[0], (int(n) for n in shape[1:])
    oh, ow = params.output_size(height, width)
    slab = Slab.of(params, channels, ow, tile)
    strips, columns = tile.tiles_of(oh, ow)
    rows, pixels = strips * tile.strip * tile.rows, columns * tile.width
    arrays = (filters.offsets, filters.coefficients, filters.first)
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True})
        data = build.arg("data", build.buffer(extents(*shape), "float32"))
        lists = [
            build.arg(name, build.buffer(extents(array.size), str(array.dtype)))
            for name, array in zip(("offsets", "coefficients", "first"), arrays, strict=True)
        ]
        result = build.arg("result", build.buffer(extents(batch, params.out_channels, oh, ow), "float32"))
        with build.sblock("root"):
            window = build.sblock_alloc_buffer(extents(batch, strips, slab.size), "float32")
            sums = build.sblock_alloc_buffer(extents(batch, params.out_channels, rows, pixels), "float32")
            if tile.chunks > 1:
                with build.parallel(*extents(0, batch * strips * channels)) as task:
                    n, strip, c = _split(task, strips, channels)
                    _fill_window(data, window, (n, strip, c), params, slab, tile)
            with build.parallel(*extents(0, batch * strips * tile.chunks)) as task:
                n, strip, chunk = _split(task, strips, tile.chunks)
                if tile.chunks == 1:
                    with build.serial(*extents(0, channels)) as c:
                        _fill_window(data, window, (n, strip, c), params, slab, tile)
                with (
                    build.serial(*extents(0, tile.strip)) as tile_row,
                    build.serial(*extents(0, columns)) as column,
                    build.sblock("lookup_conv2d"),
                ):
                    domain = extents(batch, tile.chunks, strips * tile.strip, columns)
                    at = (n, chunk, strip * tile.strip + tile_row, column)
                    axes = [build.axis.spatial(e, v) for e, v in zip(domain, at, strict=True)]
                    build.sblock_attr(attrs)
                    _add_up(window, lists, sums, axes, params, slab, tile)
            _crop(sums, result)
    return builder.get()


def _split(task: tirx.Var, middle: int, inner: int) -> tuple[tvm.ir.Expr, tvm.ir.Expr, tvm.ir.Expr]:
    """Indices of a loop over (outer, middle, inner)."""
    rest, last = tirx.floordiv(task, inner), tirx.floormod(task, inner)
    return tirx.floordiv(rest, middle), tirx.floormod(rest, middle), last


def _add_up(
    window: tirx.Buffer,
    lists: list[tirx.Buffer],
    sums: tirx.Buffer,
    axes: list[tirx.Var],
    params: Conv2dParams,
    slab: Slab,
    tile: LookupKnobs,
) -> None:
    """One tile of all filters of a chunk; the sums of each are in registers while a block of channels is added."""
    (n, chunk, tile_row, column), filters = axes, params.out_channels // tile.chunks
    top, left, low = tile_row * tile.rows, column * tile.width, chunk * filters
    strip, row = tirx.floordiv(tile_row, tile.strip), tirx.floormod(tile_row, tile.strip)
    build.reads(window[n, strip, 0 : slab.size], *(each[0 : each.shape[0]] for each in lists))
    build.writes(sums[n, low : low + filters, top : top + tile.rows, left : left + tile.width])
    tile_sums = [
        (y * params.stride[0] * slab.pitch + x, [top + y, tirx.Ramp(left + x, 1, tile.lanes)])
        for y in range(tile.rows)
        for x in range(0, tile.width, tile.lanes)
    ]
    held = build.sblock_alloc_buffer(extents(len(tile_sums) * tile.lanes), "float32", scope="local")
    start = build.bind(row * (tile.rows * params.stride[0] * slab.pitch) + left)
    zero = tirx.Broadcast(tirx.const(0, "float32"), tile.lanes)

    blocks = -(-slab.channels // tile.block)
    registers = [_ramp(i * tile.lanes, 1, tile.lanes) for i in range(len(tile_sums))]
    with build.serial(*extents(0, blocks)) as block, build.serial(*extents(0, filters)) as within:
        o = low + within
        with build.If(block == 0):
            with build.Then():
                for register in registers:
                    build.buffer_store(held, zero, [register])
            with build.Else():
                for register, (_, at) in zip(registers, tile_sums, strict=True):
                    build.buffer_store(held, tirx.BufferLoad(sums, [n, o, *at]), [register])
        _add_coefficients(
            window, lists, held, (n, strip, start + block * (tile.block * slab.plane)),
            block * params.out_channels + o, [shift for shift, _ in tile_sums], tile.lanes,
        )  # fmt: skip
        for register, (_, at) in zip(registers, tile_sums, strict=True):
            build.buffer_store(sums, tirx.BufferLoad(held, [register]), [n, o, *at])


def _add_coefficients(
    window: tirx.Buffer,
    lists: list[tirx.Buffer],
    held: tirx.Buffer,
    at: tuple[tvm.ir.Expr, tvm.ir.Expr, tvm.ir.Expr],
    entry: tvm.ir.Expr,
    shifts: list[int],
    lanes: int,
) -> None:
    """Add all coefficients of the list ``entry`` to the sums that are held in registers."""
    (offsets, coefficients, first), (n, strip, start) = lists, at
    with build.serial(first[entry].astype("int64"), first[entry + 1].astype("int64")) as t:
        place = build.bind(start + offsets[t].astype("int64"))
        factor = tirx.Broadcast(coefficients[t], lanes)
        for i, shift in enumerate(shifts):
            register = [_ramp(i * lanes, 1, lanes)]
            value = tirx.BufferLoad(window, [n, strip, _ramp(place + shift, 1, lanes)])
            build.buffer_store(held, tirx.BufferLoad(held, register) + factor * value, register)


def _fill_window(
    data: tirx.Buffer,
    window: tirx.Buffer,
    at: tuple[tvm.ir.Expr, tvm.ir.Expr, tvm.ir.Expr],
    params: Conv2dParams,
    slab: Slab,
    tile: LookupKnobs,
) -> None:
    """The padded input of one channel under one strip."""
    batch, channels, height, width = data.shape
    strips, stride = window.shape[1], params.stride[1]
    with build.sblock("window"):
        n, strip, c = (build.axis.spatial(e, v) for e, v in zip((batch, strips, channels), at, strict=True))
        build.reads(data[n, c, 0:height, 0:width])
        build.writes(window[n, strip, c * slab.plane : (c + 1) * slab.plane])
        build.sblock_attr(stage("window"))
        top = strip * (tile.strip * tile.rows * params.stride[0]) - params.padding[0]
        with build.serial(*extents(0, slab.rows)) as y:
            for phase in range(slab.phases):
                row = build.bind(top + y)
                start = build.bind(((c * slab.phases + phase) * slab.rows + y) * slab.pitch)
                # Column j of this phase is column j · stride + shift of the input.
                shift = phase - params.padding[1]
                low = min(max(0, -(shift // stride)), slab.pitch)
                high = max(low, min((int(width) - 1 - shift) // stride + 1, slab.pitch))

                def zeros(first: int, count: int, start: tvm.ir.Expr = start) -> None:
                    for j, lanes in _vectors(first, count):
                        none = tirx.Broadcast(tirx.const(0, "float32"), lanes) if lanes > 1 else 0.0
                        build.buffer_store(window, none, [n, strip, _ramp(start + j, 1, lanes)])

                with build.If(tirx.all(row >= 0, row < height)):
                    with build.Then():
                        zeros(0, low)
                        for j, lanes in _vectors(low, high - low):
                            columns = _ramp(tirx.IntImm("int64", j * stride + shift), stride, lanes)
                            value = tirx.BufferLoad(data, [n, c, row, columns])
                            build.buffer_store(window, value, [n, strip, _ramp(start + j, 1, lanes)])
                        zeros(high, slab.pitch - high)
                    with build.Else():
                        zeros(0, slab.pitch)


def _vectors(first: int, count: int) -> list[tuple[int, int]]:
    """(position, lanes) of vectors of 16, 8, 4, 2 and 1 that cover ``count`` places."""
    found, at, lanes = [], first, 16
    while at < first + count:
        while lanes > first + count - at:
            lanes //= 2
        found.append((at, lanes))
        at += lanes
    return found


def _ramp(base: int | tvm.ir.Expr, stride: int, lanes: int) -> tvm.ir.Expr:
    base = tirx.IntImm("int64", base) if isinstance(base, int) else base
    return tirx.Ramp(base, stride, lanes) if lanes > 1 else base


def _crop(sums: tirx.Buffer, result: tirx.Buffer) -> None:
    """What is the result of the rounded-up sums, as a block of its own: epilogues fuse behind it."""
    with build.grid(*result.shape) as loops, build.sblock("crop"):
        at = [build.axis.spatial(e, v) for e, v in zip(result.shape, loops, strict=True)]
        build.reads(sums[tuple(at)])
        build.writes(result[tuple(at)])
        build.buffer_store(result, sums[tuple(at)], at)


register_body("llvm", "lookup_conv2d", lookup_conv2d_loops)
