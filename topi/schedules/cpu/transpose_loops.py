"""The loops of `topi.transpose` on a CPU: square tiles are turned in registers, by rounds of two-operand shuffles."""

from __future__ import annotations

import math

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from ...window import extents
from ..registry import register_body


def transpose_loops(
    shape: tuple[int | tirx.Var, ...],
    lead: int,
    rows: int,
    side: int,
) -> tirx.PrimFunc:
    """The body of `topi.transpose.transpose`; arguments as there."""
    batch = math.prod(shape[:lead])
    height = math.prod(int(n) for n in shape[lead : lead + rows])
    width = math.prod(int(n) for n in shape[lead + rows :])
    turned = (*shape[:lead], *shape[lead + rows :], *shape[lead : lead + rows])
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        source = build.arg("source", build.buffer(extents(*shape), "float32"))
        result = build.arg("result", build.buffer(extents(*turned), "float32"))
        with build.sblock("root"):
            inside = build.decl_buffer(extents(batch, height, width), "float32", data=source.data)
            outside = build.decl_buffer(extents(batch, width, height), "float32", data=result.data)
            _walk(inside, outside, side)
    return builder.get()


def _walk(inside: tirx.Buffer, outside: tirx.Buffer, side: int) -> None:
    """Emit the loops over tiles: bands of ``side`` output rows in parallel, so that each writes side by side."""
    batch, height, width = inside.shape
    bands = (width + side - 1) // side
    with (
        build.parallel(*extents(0, batch * bands)) as task,
        build.serial(*extents(0, (height + side - 1) // side)) as step,
    ):
        item, band = tirx.floordiv(task, bands), tirx.floormod(task, bands)
        row, column = tirx.min(step * side, height - side), tirx.min(band * side, width - side)
        vectors = [
            build.bind(tirx.BufferLoad(inside, [item, row + i, tirx.Ramp(column, 1, side)]))
            for i in range(side)
        ]
        for i, vector in enumerate(_turn(vectors)):
            build.buffer_store(outside, vector, [item, column + i, tirx.Ramp(row, 1, side)])


def _turn(vectors: list[tirx.Var]) -> list[tirx.Var]:
    """Transpose a square: round by round, exchange the off-diagonal quarters of blocks of 2, 4, 8, ... rows."""
    side, vectors = len(vectors), list(vectors)
    distance = 1
    while distance < side:
        low = [side + j - distance if j & distance else j for j in range(side)]
        high = [side + j if j & distance else j + distance for j in range(side)]
        for upper in (i for i in range(side) if not i & distance):
            pair = [vectors[upper], vectors[upper + distance]]
            vectors[upper] = _shuffle(pair, low)
            vectors[upper + distance] = _shuffle(pair, high)
        distance *= 2
    return vectors


def _shuffle(pair: list[tirx.Var], lanes: list[int]) -> tvm.ir.Expr:
    return build.bind(tirx.Shuffle(pair, [tirx.IntImm("int32", lane) for lane in lanes]))


register_body("llvm", "transpose", transpose_loops)
