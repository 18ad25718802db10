"""Schedule of `topi.byte_counts`: runs of bytes inside the register tile, a vector of words at a time."""

from functools import cache

from tvm import tirx
from tvm.s_tir import Schedule, TensorIntrin
from tvm.s_tir.schedule import SBlockRV
from tvm.script import tirx as T

from ...byte_counts import byte_popcount


def schedule_byte_counts(sch: Schedule, counts: SBlockRV, lanes: int) -> None:
    """Schedule the bytes of one run, which stand inside the loops that add runs up."""
    sch.set_scope(counts, 0, "local")
    kinds = [var.iter_type for var in sch.get(counts).iter_vars]
    loops = sch.get_loops(counts)[-len(kinds) :]
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.DataPar]
    reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.CommReduce]
    vector, lane = sch.split(spatial[-1], [None, lanes])
    sch.reorder(*reduced, *spatial[:-1], vector, lane)
    for loop in (*spatial[:-1], vector):
        sch.unroll(loop)
    init = sch.decompose_reduction(counts, reduced[0])
    sch.vectorize(sch.get_loops(init)[-1])
    sch.tensorize(lane, _add_byte_popcounts(lanes))


@cache
def _add_byte_popcounts(lanes: int) -> str:
    """Register the addition of one vector's byte counts; returns its name."""
    name, wide = f"fastconv_byte_popcount_{lanes}", T.int64(lanes)
    words, octets = f"uint32x{lanes}", f"uint8x{4 * lanes}"

    @T.prim_func(s_tir=True)
    def description(a: T.handle, w: T.handle, c: T.handle) -> None:
        word = T.match_buffer(a, (T.int64(1),), "uint32", offset_factor=1)
        weight = T.match_buffer(w, (wide,), "uint32", offset_factor=1)
        sums = T.match_buffer(c, (wide,), "uint32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(sums[T.int64(0) : wide], word[0], weight[T.int64(0) : wide])
            T.writes(sums[T.int64(0) : wide])
            for j in range(wide):
                with T.sblock("lane"):
                    vj = T.axis.spatial(wide, j)
                    sums[vj] = sums[vj] + byte_popcount(word[0] ^ weight[vj])

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, w: T.handle, c: T.handle) -> None:
        word = T.match_buffer(a, (T.int64(1),), "uint32", offset_factor=1)
        weight = T.match_buffer(w, (wide,), "uint32", offset_factor=1)
        sums = T.match_buffer(c, (wide,), "uint32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(sums[T.int64(0) : wide], word[0], weight[T.int64(0) : wide])
            T.writes(sums[T.int64(0) : wide])
            sums[T.ramp(T.int64(0), 1, lanes)] = sums[T.ramp(T.int64(0), 1, lanes)] + T.reinterpret(
                words,
                T.popcount(
                    T.reinterpret(octets, T.broadcast(word[0], lanes) ^ weight[T.ramp(T.int64(0), 1, lanes)])
                ),
            )

    TensorIntrin.register(name, description, implementation)
    return name
