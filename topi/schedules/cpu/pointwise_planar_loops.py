"""The loops of `topi.pointwise_planar` on a CPU: a register tile of planes times vectors of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from ...window import extents
from ..registry import register_body

if TYPE_CHECKING:
    from ...pointwise_planar import PointwiseKnobs


def pointwise_planar_loops(
    shape: tuple[int | tirx.Var, ...],
    atoms: int,
    tile: PointwiseKnobs,
    attrs: dict[str, str],
) -> tirx.PrimFunc:
    """The body of `topi.pointwise_planar.pointwise_planar`; arguments as there."""
    batch, (channels, height, width) = shape[0], (int(n) for n in shape[1:])
    pixels, whole, rest = height * width, *divmod(atoms, tile.atoms)
    tiles = -(-pixels // tile.pixels)
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        data = build.arg("data", build.buffer(extents(*shape), "float32"))
        packed = extents(whole + (rest > 0), channels, tile.atoms)
        weight = build.arg("weight", build.buffer(packed, "float32"))
        result = build.arg("result", build.buffer(extents(batch, atoms, height, width), "float32"))
        with build.sblock("root"):
            source = build.decl_buffer(extents(batch, channels, pixels), "float32", data=data.data)
            target = build.decl_buffer(extents(batch, atoms, pixels), "float32", data=result.data)
            with build.parallel(*extents(0, batch * tiles)) as task:
                n, column = tirx.floordiv(task, tiles), tirx.floormod(task, tiles)
                start = build.bind(tirx.min(column * tile.pixels, pixels - tile.pixels))
                with build.sblock("pointwise_planar"):
                    build.sblock_attr(attrs)
                    if whole:
                        with build.serial(*extents(0, whole)) as row:
                            _add_up(source, weight, target, (n, row, start), tile, tile.atoms)
                    if rest:
                        last = tirx.IntImm("int64", whole)
                        _add_up(source, weight, target, (n, last, start), tile, rest)
    return builder.get()


def _add_up(
    source: tirx.Buffer,
    weight: tirx.Buffer,
    target: tirx.Buffer,
    at: tuple,
    tile: PointwiseKnobs,
    rows: int,
) -> None:
    n, row, start = at
    held = build.sblock_alloc_buffer(extents(rows * tile.pixels), "float32", scope="local")
    places = [(r, first) for r in range(rows) for first in range(0, tile.pixels, tile.lanes)]

    def register(r: int, first: int) -> list[tirx.Ramp]:
        return [tirx.Ramp(tirx.IntImm("int64", r * tile.pixels + first), 1, tile.lanes)]

    for place in places:
        build.buffer_store(held, tirx.Broadcast(tirx.const(0, "float32"), tile.lanes), register(*place))
    with build.serial(*extents(0, source.shape[1])) as c:
        values = {
            first: build.bind(tirx.BufferLoad(source, [n, c, tirx.Ramp(start + first, 1, tile.lanes)]))
            for first in range(0, tile.pixels, tile.lanes)
        }
        for r, first in places:
            factor = tirx.Broadcast(weight[row, c, r], tile.lanes)
            before = tirx.BufferLoad(held, register(r, first))
            build.buffer_store(held, before + factor * values[first], register(r, first))
    for r, first in places:
        pixels = tirx.Ramp(start + first, 1, tile.lanes)
        build.buffer_store(
            target, tirx.BufferLoad(held, register(r, first)), [n, row * tile.atoms + r, pixels]
        )


register_body("llvm", "pointwise_planar", pointwise_planar_loops)
