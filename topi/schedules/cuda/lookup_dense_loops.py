"""The loops of `topi.lookup_dense` on a GPU: rows, coefficients and the items of a batch over the lanes of warps."""

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
from .lookup_dense import GpuLookupDenseKnobs

if TYPE_CHECKING:
    from ...sparse_lists import ListedRows

TURNED = 32
"""Columns of the input that a block turns."""


@dataclass(frozen=True)
class _Product:
    """What every step of the loops needs to know; ``batch`` of 32 bits."""

    batch: tvm.ir.Expr
    columns: int
    outputs: int
    knobs: GpuLookupDenseKnobs

    @property
    def parts(self) -> tvm.ir.Expr:
        """Of the batch, each with lanes of its own."""
        images = self.knobs.images
        return tirx.floordiv(self.batch + (images - 1), images)

    @property
    def groups(self) -> int:
        """Blocks of rows."""
        return -(-self.outputs // self.knobs.rows)


def lookup_dense_loops(
    batch: int | tirx.Var,
    columns: int,
    outputs: int,
    weight: ListedRows,
    attrs: dict[str, str],
    unit_axes: int = 0,
) -> tirx.PrimFunc:
    """The body of `topi.lookup_dense.lookup_dense`; arguments as there."""
    knobs = GpuLookupDenseKnobs.from_json(attrs["fastconv.knobs"])
    count = tirx.IntImm("int32", batch) if isinstance(batch, int) else batch.astype("int32")
    product, unit = _Product(count, columns, outputs, knobs), (1,) * unit_axes
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True})
        data = build.arg("data", build.buffer(extents(batch, columns), "float32"))
        lists = [
            build.arg(name, build.buffer(extents(array.size), "int32"))
            for name, array in zip(("entries", "first"), weight.arrays, strict=True)
        ]
        result = build.arg("result", build.buffer(extents(batch, *unit, outputs), "float32"))
        with build.sblock("root"):
            source = data
            if knobs.images > 1:
                shape = (product.parts.astype("int64"), *extents(columns, knobs.images))
                source = build.sblock_alloc_buffer(shape, "float32")
                _turn(data, source, product)
            held = build.sblock_alloc_buffer([1], "float32", scope="local")
            domain = product.parts * product.groups, knobs.threads
            with (
                build.thread_binding(0, domain[0], "blockIdx.x") as x,
                build.thread_binding(0, domain[1], "threadIdx.x") as t,
            ):
                with build.sblock("lookup_dense"):
                    at = [build.axis.spatial(e, v) for e, v in zip(domain, (x, t), strict=True)]
                    build.reads(*(_whole(each) for each in (source, *lists)))
                    build.writes(held[0:1])
                    build.sblock_attr(attrs)
                    _add_up(source, lists, held, product, at)
                with build.sblock("crop"):
                    at = [build.axis.spatial(e, v) for e, v in zip(domain, (x, t), strict=True)]
                    build.reads(held[0:1])
                    build.writes(_whole(result))
                    build.sblock_attr(stage("crop"))
                    n, row, first = _place(product, at)[:3]
                    inside = tirx.all(first == 0, n < product.batch, row < outputs)
                    with build.If(inside), build.Then():
                        at = [n.astype("int64"), *extents(*(0 for _ in unit)), row.astype("int64")]
                        build.buffer_store(result, held[0], at)
    return builder.get()


def _whole(buffer: tirx.Buffer) -> tvm.ir.TensorRegion:
    return buffer[tuple(slice(0, n) for n in buffer.shape)]


def _place(product: _Product, at: list[tirx.Var]) -> tuple[tvm.ir.Expr, ...]:
    """Item, row, and place among the lanes of this row; part of the batch, and place among its lanes."""
    (x, t), knobs = at, product.knobs
    part, image = tirx.floordiv(x, product.groups), tirx.floormod(t, knobs.images)
    of_row = knobs.images * knobs.entries
    row = tirx.floormod(x, product.groups) * knobs.rows + tirx.floordiv(t, of_row)
    entry = tirx.floordiv(tirx.floormod(t, of_row), knobs.images)
    return part * knobs.images + image, row, entry, part, image


def _add_up(
    source: tirx.Buffer, lists: list[tirx.Buffer], held: tirx.Buffer, product: _Product, at: list[tirx.Var]
) -> None:
    """A lane's share of a row, and then the sum over the lanes of the row."""
    knobs, (entries, first) = product.knobs, lists
    _, row, entry, part, image = _place(product, at)
    listed = build.sblock_alloc_buffer([4 * knobs.pairs], "int32", scope="local")
    part64, image64 = part.astype("int64"), image.astype("int64")

    def value(column: tvm.ir.Expr) -> tvm.ir.Expr:
        return source[part64, column] if knobs.images == 1 else source[part64, column, image64]

    build.buffer_store(held, tirx.const(0, "float32"), [0])
    begin, end = build.bind(first[row]), build.bind(first[row + 1])
    with build.serial(0, end - begin) as step:
        for pair in range(knobs.pairs):
            place = ((begin + step) * knobs.pairs + pair) * knobs.entries + entry
            build.buffer_store(
                listed, tirx.BufferLoad(entries, [tirx.Ramp(place * 4, 1, 4)]), [tirx.Ramp(4 * pair, 1, 4)]
            )
        values = [build.bind(value(listed[2 * i].astype("int64"))) for i in range(2 * knobs.pairs)]
        for i, each in enumerate(values):
            build.buffer_store(held, held[0] + tirx.reinterpret("float32", listed[2 * i + 1]) * each, [0])
    distance = knobs.images
    while distance < knobs.images * knobs.entries:
        other = build.cuda.__shfl_xor_sync(tirx.const(0xFFFFFFFF, "uint32"), held[0], distance, WARP)
        build.buffer_store(held, held[0] + other, [0])
        distance *= 2


def _turn(data: tirx.Buffer, turned: tirx.Buffer, product: _Product) -> None:
    """Lay the items of each part of the batch side by side, zeros behind the last."""
    images, columns = product.knobs.images, product.columns
    tiles = -(-columns // TURNED)
    domain = product.parts * tiles, TURNED * 8
    with (
        build.thread_binding(0, domain[0], "blockIdx.x") as x,
        build.thread_binding(0, domain[1], "threadIdx.x") as t,
        build.sblock("turn"),
    ):
        x, t = (build.axis.spatial(e, v) for e, v in zip(domain, (x, t), strict=True))
        build.reads(_whole(data))
        build.writes(_whole(turned))
        build.sblock_attr(stage("turn"))
        tile = build.sblock_alloc_buffer([TURNED, images + 1], "float32", scope="shared")
        part, left = tirx.floordiv(x, tiles), tirx.floormod(x, tiles) * TURNED
        with build.serial(0, -(-images // 8)) as turn:
            image, column = turn * 8 + tirx.floordiv(t, TURNED), left + tirx.floormod(t, TURNED)
            n = part * images + image
            with build.If(image < images), build.Then():
                inside = tirx.all(n < product.batch, column < columns)
                place = [n.astype("int64"), column.astype("int64")]
                value = tirx.if_then_else(inside, data[tuple(place)], tirx.const(0, "float32"))
                build.buffer_store(tile, value, [tirx.floormod(t, TURNED), image])
        with build.serial(0, -(-TURNED * images // (TURNED * 8))) as turn:
            at = turn * (TURNED * 8) + t
            row, image = tirx.floordiv(at, images), tirx.floormod(at, images)
            with build.If(tirx.all(row < TURNED, left + row < columns)), build.Then():
                place = [each.astype("int64") for each in (part, left + row, image)]
                build.buffer_store(turned, tile[row, image], place)


register_body("cuda", "lookup_dense", lookup_dense_loops)
