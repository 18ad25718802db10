"""Thirty-two comparisons into one word: vector compares to a mask, which becomes the word.

TIR has no vector of single bits, so the step is a tensor intrinsic over a few lines of LLVM IR. They are the same for
every processor: 32 lanes compared and read as an integer become ``vpcmp`` and ``kunpck`` on AVX-512, ``packss`` and
``pmovmskb`` on AVX2 and SSE.
"""

from functools import cache

from tvm.s_tir import Schedule, TensorIntrin
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.script import tirx as T

from ...bits import WORD_BITS

_MASKS = """
define internal i32 @fastconv_less_i32(ptr %a, ptr %b) alwaysinline {
  %x = load <32 x i32>, ptr %a, align 4
  %y = load <32 x i32>, ptr %b, align 4
  %c = icmp slt <32 x i32> %x, %y
  %m = bitcast <32 x i1> %c to i32
  ret i32 %m
}
define internal i32 @fastconv_at_least_f32(ptr %a, ptr %b) alwaysinline {
  %x = load <32 x float>, ptr %a, align 4
  %y = load <32 x float>, ptr %b, align 4
  %c = fcmp oge <32 x float> %x, %y
  %m = bitcast <32 x i1> %c to i32
  ret i32 %m
}
"""


def pack_words(sch: Schedule, pack: SBlockRV, outermost: LoopRV, compared: SBlockRV | None) -> None:
    """Replace the loop over the bits of ``pack``, its last, by the intrinsic.

    ``compared`` is the block that makes the values on the left, in registers; ``None`` where they are an argument.
    """
    bit = sch.get_loops(pack)[-1]
    sch.decompose_reduction(pack, bit)
    dtype = "float32" if compared is None else str(sch.get(compared).writes[0].source.dtype)
    left = "global" if compared is None else "local"
    sch.tensorize(bit, _intrinsic(dtype, left, str(sch.get(pack).writes[0].source.scope())))
    sch.annotate(outermost, "pragma_import_llvm", _MASKS)


@cache
def _intrinsic(dtype: str, scope: str, result: str) -> str:
    name = f"fastconv_pack_{dtype}_{scope}_{result}"
    function = {"int32": "fastconv_less_i32", "float32": "fastconv_at_least_f32"}[dtype]

    # The comparison of floats reaches the schedule as ``right <= left``, and its reads are matched in that order.
    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        left = T.match_buffer(a, (T.int64(32),), dtype, offset_factor=1, scope=scope)
        right = T.match_buffer(b, (T.int64(32),), dtype, offset_factor=1)
        word = T.match_buffer(c, (T.int64(1),), "uint32", offset_factor=1, scope=result)
        with T.sblock("root"):
            if dtype == "int32":
                T.reads(word[0], left[T.int64(0) : T.int64(32)], right[T.int64(0) : T.int64(32)])
            else:
                T.reads(word[0], right[T.int64(0) : T.int64(32)], left[T.int64(0) : T.int64(32)])
            T.writes(word[0])
            for j in range(T.int64(32)):
                with T.sblock("bit"):
                    vj = T.axis.reduce(T.int64(32), j)
                    if dtype == "int32":
                        T.reads(word[0], left[vj], right[vj])
                        T.writes(word[0])
                        word[0] = word[0] + T.shift_left(
                            T.Select(left[vj] < right[vj], T.uint32(1), T.uint32(0)), T.Cast("uint32", vj)
                        )
                    else:
                        T.reads(word[0], right[vj], left[vj])
                        T.writes(word[0])
                        word[0] = word[0] + T.shift_left(
                            T.Select(left[vj] >= right[vj], T.uint32(1), T.uint32(0)), T.Cast("uint32", vj)
                        )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        left = T.match_buffer(a, (T.int64(32),), dtype, offset_factor=1, scope=scope)
        right = T.match_buffer(b, (T.int64(32),), dtype, offset_factor=1)
        word = T.match_buffer(c, (T.int64(1),), "uint32", offset_factor=1, scope=result)
        with T.sblock("root"):
            T.reads(word[0], left[T.int64(0) : T.int64(32)], right[T.int64(0) : T.int64(32)])
            T.writes(word[0])
            word[0] = word[0] + T.call_extern("uint32", function, left.access_ptr("r"), right.access_ptr("r"))

    assert WORD_BITS == 32
    TensorIntrin.register(name, description, implementation)
    return name
