"""The register tile of `int8_conv2d`: sixteen lanes of four products each, one ``vpdpbusd``."""

from functools import cache

from tvm import tirx
from tvm.s_tir import Schedule, TensorIntrin
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.script import tirx as T

from ..cpu.conv2d import Sums, tile_template
from ..cpu.tile import TileKnobs
from ..registry import register

LANES = 16


def schedule_dot_sums(sch: Schedule, anchor: SBlockRV, knobs: TileKnobs) -> list[LoopRV]:
    """Order the sums of ``anchor``, which stand at their place, around vectors of dot products; see `schedule_sums`."""
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


def replace_dot_products(sch: Schedule, anchor: SBlockRV, init: SBlockRV, _knobs: TileKnobs) -> None:
    """Make the two innermost loops of ``anchor``, whose sums start at zero in ``init``, one instruction."""
    sch.vectorize(sch.get_loops(init)[-1])
    sch.tensorize(sch.get_loops(anchor)[-2], _dot_product())


@cache
def _dot_product() -> str:
    """Register the addition of sixteen dot products; returns its name."""
    name = "fastconv_dot_16x4"

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (T.int64(4),), "uint8", offset_factor=1)
        weight = T.match_buffer(b, (T.int64(16), T.int64(4)), "int8", offset_factor=1)
        sums = T.match_buffer(c, (T.int64(16),), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(sums[T.int64(0) : T.int64(16)], data[T.int64(0) : T.int64(4)],
                    weight[T.int64(0) : T.int64(16), T.int64(0) : T.int64(4)])  # fmt: skip
            T.writes(sums[T.int64(0) : T.int64(16)])
            for i, k in T.grid(T.int64(16), T.int64(4)):
                with T.sblock("product"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    sums[vi] = sums[vi] + T.cast(data[vk], "int32") * T.cast(weight[vi, vk], "int32")

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (T.int64(4),), "uint8", offset_factor=1)
        weight = T.match_buffer(b, (T.int64(16), T.int64(4)), "int8", offset_factor=1)
        sums = T.match_buffer(c, (T.int64(16),), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(sums[T.int64(0) : T.int64(16)], data[T.int64(0) : T.int64(4)],
                    weight[T.int64(0) : T.int64(16), T.int64(0) : T.int64(4)])  # fmt: skip
            T.writes(sums[T.int64(0) : T.int64(16)])
            sums[T.ramp(T.int64(0), 1, 16)] = T.call_llvm_pure_intrin(
                "int32x16",
                T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512"),
                sums[T.ramp(T.int64(0), 1, 16)],
                T.reinterpret(
                    "int8x64", T.broadcast(T.reinterpret("int32", data[T.ramp(T.int64(0), 1, 4)]), 16)
                ),
                weight.vload([0, 0], dtype="int8x64"),
            )

    TensorIntrin.register(name, description, implementation)
    return name


register("llvm", ["int8_conv2d"], tile_template(Sums(schedule_dot_sums, replace_dot_products)))
