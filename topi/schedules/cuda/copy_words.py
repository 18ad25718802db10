"""Asynchronous copies to shared memory, in single words where nothing is aligned to more.

TVM does not see what they write: whoever uses them says where threads wait for one another.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.backend.cuda.op import cuda_func_call
from tvm.script.ir_builder import tirx as build

_STATEMENT = """
#if defined(FASTCONV_EMULATOR)
  fastconv_emulated::cp_async(to, from, @bytes@, inside ? @bytes@ : 0);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.@level@.shared.global [%0], [%1], @bytes@, %2;"
    :: "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(inside ? @bytes@ : 0));
#else
  for (int i = 0; i < @words@; ++i) ((int*)to)[i] = inside ? ((const int*)from)[i] : 0;
#endif
"""

_COPY = """
__device__ __forceinline__ void fastconv_copy_@words@(void* to, const void* from, int inside) {@statement@}
"""

_COLUMN = """
__device__ __forceinline__ void fastconv_copy_column(float* to, const float* from, int inside, int count,
                                                     int to_step, int from_step) {
#pragma unroll 4
  for (int turn = 0; turn < count; ++turn) {@statement@
    to += to_step;
    from += from_step;
  }
}
"""

_COMMIT = """
__device__ __forceinline__ void fastconv_commit_copies() {
#if defined(FASTCONV_EMULATOR)
  fastconv_emulated::cp_async_commit();
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;");
#endif
}
"""

_WAIT = """
__device__ __forceinline__ void fastconv_wait_for_copies_@groups@() {
#if defined(FASTCONV_EMULATOR)
  fastconv_emulated::cp_async_wait(@groups@);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group @groups@;" ::: "memory");
#endif
}
"""


def copy_words(to: tvm.ir.Expr, source: tvm.ir.Expr, inside: tvm.ir.Expr, words: int = 1) -> None:
    """Begin to copy values of 32 bits from ``source`` on to shared memory; zeros where they are not ``inside``.

    Parameters
    ----------
    to, source : loads
        Of which only the places are taken; ``source`` must be one that exists, in any case.
    words : int
        1, or 4 where both are aligned to them.
    """
    places = tirx.address_of(to), tirx.address_of(source)
    _call(f"fastconv_copy_{words}", _code(_COPY, words), *places, tirx.Cast("int32", inside))


def copy_column(
    to: tvm.ir.Expr,
    source: tvm.ir.Expr,
    inside: tvm.ir.Expr,
    count: tvm.ir.Expr,
    steps: tuple[int, int],
) -> None:
    """The same for ``count`` single values, ``steps`` apart where they go and where they come from."""
    places = tirx.address_of(to), tirx.address_of(source)
    _call("fastconv_copy_column", _code(_COLUMN, 1), *places, tirx.Cast("int32", inside), count, *steps)


def _code(text: str, words: int) -> str:
    values = {
        "statement": _STATEMENT,
        "words": words,
        "bytes": 4 * words,
        "level": "cg" if words == 4 else "ca",
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def commit_copies() -> None:
    """What was begun since the last time is one group."""
    _call("fastconv_commit_copies", _COMMIT)


def wait_for_copies(groups: int = 0) -> None:
    """Wait until no more than so many groups of this thread are left; and then for the other threads of the block."""
    _call(f"fastconv_wait_for_copies_{groups}", _WAIT.replace("@groups@", str(groups)))
    wait_for_block()


def wait_for_block() -> None:
    """A barrier."""
    build.evaluate(build.tvm_storage_sync("shared"))


def _call(name: str, code: str, *args: tvm.ir.Expr) -> None:
    build.evaluate(cuda_func_call(name, *args, source_code=code, return_type="void"))
