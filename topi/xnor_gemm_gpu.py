"""The product of signs on a GPU: three or four kernels in a function, each a call of a device function by all threads.

Packed rows are whole lines of 1024 bits, behind the last of which there are zeros: `pack_lines`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from .bits import WORD, pack_bits, unpack_bits, word_count
from .gpu import WARP
from .machine import Machine
from .operators import Sample, operator_attrs, register_knobs, register_operator
from .problem import Problem
from .schedules.cuda.bitserial import TENSOR_CORES
from .schedules.cuda.xnor_gemm import LINE, MANY_BLOCKS, XnorGemmGpuKnobs
from .schedules.cuda.xnor_gemm_source import COUNT_ONES, PACK_COLUMNS, PACK_ROWS, product_source
from .window import extents

PACK_WARPS, COLUMN_WARPS, COLUMNS = 4, 32, 32
"""Warps of a block that packs rows, and of one that packs so many columns."""


@dataclass(frozen=True, kw_only=True)
class PackedXnorGemmProblem(Problem):
    """The product of packed signs: ``inner`` bits of any number of rows and of ``columns``."""

    inner: int
    columns: int

    @property
    def operand_bytes(self) -> float:
        """Of a bit."""
        return 1 / 8


def line_words(inner: int) -> int:
    """Words of a packed row."""
    return -(-word_count(inner) // LINE) * LINE


def pack_lines(bits: np.ndarray) -> np.ndarray:
    """Pack bool (rows, k) into uint32 (rows, `line_words` (k))."""
    words = pack_bits(bits)
    return np.pad(words, ((0, 0), (0, line_words(bits.shape[1]) - words.shape[1])))


def xnor_gemm_packed_reference(left: np.ndarray, right: np.ndarray, inner: int) -> np.ndarray:
    """The product of the signs that ``left`` and ``right`` hold, float32: exact for ``inner`` up to 2^24."""
    signs = [np.where(unpack_bits(side, inner), np.float32(1), np.float32(-1)) for side in (left, right)]
    return signs[0] @ signs[1].T


def xnor_gemm_kernels(
    inner: int, columns: int, knobs: XnorGemmGpuKnobs, attrs: dict[str, str]
) -> tirx.PrimFunc:
    """``a``, (m, k), and ``b``, (k, n), float32, to the product of their signs, (m, 1, n), float32."""
    m, n = tirx.Var("m", "int64"), columns
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True})
        a = build.arg("a", build.buffer(extents(m, inner), "float32"))
        b = build.arg("b", build.buffer(extents(inner, n), "float32"))
        result = build.arg("result", build.buffer(extents(m, 1, n), "float32"))
        with build.sblock("root"):
            left, left_ones = _packed("left", m, inner)
            right, right_ones = _packed("right", n, inner)
            rows, count = m.astype("int32"), tirx.IntImm("int32", n)
            with _kernel("pack_rows", _blocks(m, PACK_WARPS), PACK_WARPS * WARP, [a], [left, left_ones]):
                _call("fastconv_sign_rows", PACK_ROWS, a, left, left_ones, inner, rows)
            with _kernel("pack_columns", _blocks(n, COLUMNS), COLUMN_WARPS * WARP, [b], [right, right_ones]):
                square = build.sblock_alloc_buffer([COLUMNS * (COLUMNS + 1)], WORD, scope="shared")
                _call("fastconv_sign_columns", PACK_COLUMNS, b, right, right_ones, square, inner, count)
            _multiply([left, right, left_ones, right_ones], result, m, inner, n, knobs, attrs)
    return builder.get()


def xnor_gemm_packed(
    inner: int, columns: int, knobs: XnorGemmGpuKnobs, attrs: dict[str, str]
) -> tirx.PrimFunc:
    """The same of ``left``, (m, words), and ``right``, (n, words), uint32 from `pack_lines`; result (m, n), float32."""
    m, n, words = tirx.Var("m", "int64"), columns, line_words(inner)
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True})
        left = build.arg("left", build.buffer(extents(m, words), WORD))
        right = build.arg("right", build.buffer(extents(n, words), WORD))
        result = build.arg("result", build.buffer(extents(m, n), "float32"))
        with build.sblock("root"):
            ones = [build.sblock_alloc_buffer(extents(rows), "int32") for rows in (m, n)]
            with _kernel("ones", _blocks(m + n, PACK_WARPS), PACK_WARPS * WARP, [left, right], ones):
                rows = (m.astype("int32"), tirx.IntImm("int32", n))
                _call("fastconv_count_ones", COUNT_ONES, left, right, *ones, words // LINE, *rows)
            _multiply([left, right, *ones], result, m, inner, n, knobs, attrs)
    return builder.get()


def _packed(name: str, rows: int | tirx.Var, inner: int) -> tuple[tirx.Buffer, tirx.Buffer]:
    words = build.sblock_alloc_buffer(extents(rows, line_words(inner)), WORD)
    return words, build.sblock_alloc_buffer(extents(rows), "int32")


def _blocks(rows: int | tvm.ir.Expr, each: int) -> int | tvm.ir.Expr:
    return -(-rows // each) if isinstance(rows, int) else tirx.floordiv(rows + (each - 1), each)


def _multiply(
    sides: list[tirx.Buffer],
    result: tirx.Buffer,
    m: tirx.Var,
    inner: int,
    n: int,
    knobs: XnorGemmGpuKnobs,
    attrs: dict[str, str],
) -> None:
    """Emit the product of both ``sides``, behind which are their ones."""
    sizes = {
        "inner": inner,
        "columns": n,
        "tile_m": knobs.tile_m,
        "tile_n": knobs.tile_n,
        "part_m": knobs.part_m,
        "part_n": knobs.part_n,
        "stages": knobs.stages,
        "threads": knobs.threads,
    }
    name, source = product_source(sizes, knobs.unit == TENSOR_CORES)
    tiles = _blocks(m, knobs.tile_m) * _blocks(n, knobs.tile_n)
    blocks = tiles if knobs.blocks == MANY_BLOCKS else tirx.min(tiles, tirx.IntImm("int64", knobs.blocks))
    with _kernel("xnor_gemm", blocks, knobs.threads, sides, [result], attrs):
        place = build.sblock_alloc_buffer([knobs.shared_bytes // 4], WORD, scope="shared.dyn")
        _call(name, source, *sides, result, place, m.astype("int32"))


@contextmanager
def _kernel(
    name: str,
    blocks: int | tvm.ir.Expr,
    threads: int,
    reads: list[tirx.Buffer],
    writes: list[tirx.Buffer],
    attrs: dict[str, str] | None = None,
) -> Iterator[None]:
    """A block of the function that all threads of a grid execute."""
    with (
        build.thread_binding(*extents(0, blocks), "blockIdx.x"),
        build.thread_binding(*extents(0, threads), "threadIdx.x"),
        build.sblock(name),
    ):
        build.reads(*(_whole(each) for each in reads))
        build.writes(*(_whole(each) for each in writes))
        if attrs:
            build.sblock_attr(attrs)
        yield


def _whole(buffer: tirx.Buffer) -> tvm.ir.Expr:
    return buffer[tuple(slice(0, extent) for extent in buffer.shape)]


def _call(name: str, source: str, *args: tirx.Buffer | int | tvm.ir.Expr) -> None:
    values = [each.data if isinstance(each, tirx.Buffer) else each for each in args]
    build.evaluate(build.cuda.func_call(name, *values, source_code=source, return_type="void"))


def make_xnor_gemm_packed(
    problem: PackedXnorGemmProblem, knobs: XnorGemmGpuKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`xnor_gemm_packed` alone, of as many rows as columns."""
    shape = (problem.columns, problem.inner)
    left, right = pack_lines(rng.random(shape) < 0.5), pack_lines(rng.random(shape) < 0.5)
    attrs = operator_attrs("xnor_gemm_packed", problem, knobs)
    func = xnor_gemm_packed(problem.inner, problem.columns, knobs, attrs)

    def reference() -> np.ndarray:
        return xnor_gemm_packed_reference(left, right, problem.inner)

    return Sample(func, (left, right), reference, (problem.columns, problem.columns))


register_operator("xnor_gemm_packed", PackedXnorGemmProblem)
register_knobs("cuda", "xnor_gemm_packed", XnorGemmGpuKnobs, make_xnor_gemm_packed)
