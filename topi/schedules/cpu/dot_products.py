"""The register tile of `int8_conv2d`: lanes of four products each, one ``vpdpbusd``, ``usdot`` or ``sdot``."""

from functools import cache

from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.script import tirx as T

from ..registry import Site, register
from .conv2d import Sums, tile_template
from .tile import TileKnobs

INSTRUCTIONS = {
    (16, 8): "llvm.x86.avx512.vpdpbusd.512",
    (4, 8): "llvm.aarch64.neon.usdot.v4i32.v16i8",
    (4, 7): "llvm.aarch64.neon.sdot.v4i32.v16i8",
}
"""By the lanes of a vector and `Machine.dot_bits`: of ``sdot``, both factors are signed."""


def schedule_dot_sums(site: Site, knobs: TileKnobs) -> list[LoopRV]:
    """Order the sums of the anchor, which stand at their place, around vectors of dot products; see `schedule_sums`."""
    sch, anchor = site.sch, site.anchor
    axes = [var.iter_type for var in sch.get(anchor).iter_vars]
    loops = sch.get_loops(anchor)[-len(axes) :]
    spatial = [loop for loop, kind in zip(loops, axes, strict=True) if kind == tirx.IterVar.DataPar]
    *reductions, dot = [
        loop for loop, kind in zip(loops, axes, strict=True) if kind == tirx.IterVar.CommReduce
    ]
    vector, lane = sch.split(spatial[-1], [None, knobs.lanes])
    sch.reorder(*reductions, *spatial[:-1], vector, lane, dot)
    for loop in (*spatial[:-1], vector):
        sch.unroll(loop)
    return reductions


def replace_dot_products(site: Site, init: SBlockRV, knobs: TileKnobs) -> None:
    """Make the two innermost loops of the anchor, whose sums start at zero in ``init``, one instruction."""
    site.sch.vectorize(site.sch.get_loops(init)[-1])
    site.sch.tensorize(site.sch.get_loops(site.anchor)[-2], _dot_product(knobs.lanes, site.machine.dot_bits))


@cache
def _dot_product(lanes: int, bits: int) -> str:
    """Register the addition of a vector of dot products; returns its name."""
    name, wide = f"fastconv_dot_{lanes}x4_{bits}", T.int64(lanes)
    instruction, sums_type, bytes_type = INSTRUCTIONS[lanes, bits], f"int32x{lanes}", f"int8x{4 * lanes}"

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (T.int64(4),), "uint8", offset_factor=1)
        weight = T.match_buffer(b, (wide, T.int64(4)), "int8", offset_factor=1)
        sums = T.match_buffer(c, (wide,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(sums[T.int64(0) : wide], data[T.int64(0) : T.int64(4)],
                    weight[T.int64(0) : wide, T.int64(0) : T.int64(4)])  # fmt: skip
            T.writes(sums[T.int64(0) : wide])
            for i, k in T.grid(wide, T.int64(4)):
                with T.sblock("product"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    sums[vi] = sums[vi] + T.cast(data[vk], "int32") * T.cast(weight[vi, vk], "int32")

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (T.int64(4),), "uint8", offset_factor=1)
        weight = T.match_buffer(b, (wide, T.int64(4)), "int8", offset_factor=1)
        sums = T.match_buffer(c, (wide,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(sums[T.int64(0) : wide], data[T.int64(0) : T.int64(4)],
                    weight[T.int64(0) : wide, T.int64(0) : T.int64(4)])  # fmt: skip
            T.writes(sums[T.int64(0) : wide])
            sums[T.ramp(T.int64(0), 1, lanes)] = T.call_llvm_pure_intrin(
                sums_type,
                T.llvm_lookup_intrinsic_id(instruction),
                sums[T.ramp(T.int64(0), 1, lanes)],
                T.reinterpret(
                    bytes_type, T.broadcast(T.reinterpret("int32", data[T.ramp(T.int64(0), 1, 4)]), lanes)
                ),
                weight.vload([0, 0], dtype=bytes_type),
            )

    TensorIntrin.register(name, description, implementation)
    return name


register("llvm", ["int8_conv2d"], tile_template(Sums(schedule_dot_sums, replace_dot_products)))
