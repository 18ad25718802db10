"""Product of the signs of two float matrices, all of it at run time: pack both, then popcounts on the register tile.

With ``d`` the number of k at which the signs of a row and a column differ, their product is ``K − 2·d`` (Rastegari et
al., XNOR-Net, arXiv:1603.05279, section 3.2).
"""

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule

from .bits import word_count
from .byte_counts import MAX_RUN, count_by_bytes
from .machine import Machine
from .operators import Sample, operator_attrs, register_knobs, register_operator
from .pack_matrix import pack_columns, pack_rows, vector_start
from .problem import Problem
from .schedules.cpu.tile import TileLoops
from .schedules.cpu.xnor_gemm import XnorGemmKnobs
from .schedules.cuda.xnor_gemm import XnorGemmGpuKnobs
from .window import extents, reduce_axes, stage
from .xnor_gemm_gpu import xnor_gemm_kernels

MANY_ROWS = 840
"""Rows that the tile is chosen for, since any number may come: a multiple of every tile's."""


@dataclass(frozen=True, kw_only=True)
class XnorGemmProblem(Problem):
    """A right side of (inner, columns), for any number of rows."""

    inner: int
    columns: int

    @property
    def operand_bytes(self) -> float:
        """Of a number."""
        return 4.0

    @property
    def loops(self) -> TileLoops:
        """As the register tile sees it, with `MANY_ROWS`."""
        words = word_count(self.inner)
        return TileLoops(
            batch=1,
            height=MANY_ROWS,
            width=1,
            out_channels=self.columns,
            groups=1,
            reduction=words,
            strip_row_bytes=4 * words,
            weight_bytes=4 * words * self.columns,
        )


def xnor_gemm_reference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``sign(a) @ sign(b)`` with sign(0) = +1 and sign(NaN) = −1, float32; ``a`` (m, k), ``b`` (k, n)."""
    return (np.where(a >= 0, 1.0, -1.0) @ np.where(b >= 0, 1.0, -1.0)).astype(np.float32)


def xnor_gemm(
    problem: XnorGemmProblem, tile: XnorGemmKnobs | XnorGemmGpuKnobs, bytewise: bool = False
) -> tirx.PrimFunc:
    """Make the function that multiplies the signs of ``a`` by those of ``b``, for any number of rows.

    Its arguments are ``a``, (m, k), float32, ``b``, (k, n), float32, and the result, (tiles, tile.tile_h, n), float32,
    whose rows, of which there must be at least m, are those of the product, and behind them repetitions of the last.
    Sums are exact for k up to 2^24.

    Parameters
    ----------
    problem : XnorGemmProblem
        Of k = ``inner`` and n = ``columns``.
    tile : XnorGemmKnobs or XnorGemmGpuKnobs
    bytewise : bool
        Count byte by byte, see `byte_counts`: for processors without a popcount of 32-bit lanes.
    """
    k, n = problem.inner, problem.columns
    attrs = operator_attrs("xnor_gemm", problem, tile)
    if isinstance(tile, XnorGemmGpuKnobs):
        return xnor_gemm_kernels(k, n, tile, attrs)
    m, tiles = te.var("m", "int64"), te.var("tiles", "int64")
    a = te.placeholder(extents(m, k), "float32", name="a")
    b = te.placeholder(extents(k, n), "float32", name="b")
    bytewise = bytewise and tile.lanes > 1  # the bytes of a single word are no vector
    words = stored_words(k, bytewise)
    left = pack_rows(a, (tiles, tile.tile_h), words, stage("pack_rows"))
    right = pack_columns(b, tile.panel, tile.lanes, words, stage("pack_columns"))
    count = _differing(left, right, attrs, bytewise and tile.lanes > 1)  # a single lane is no vector
    product = te.compute(count.shape, lambda *at: (k - 2 * count[at]).astype("float32"), name="product")
    return _in_rows(te.create_prim_func([a, b, product]), tile.lanes, n)


def stored_words(k: int, bytewise: bool) -> int:
    """Words of a row or column: those of k, or as many as whole runs of bytes hold (see `byte_counts`)."""
    words = word_count(k)
    runs = -(-words // MAX_RUN)
    return -(-words // runs) * runs if bytewise else words


def _differing(left: te.Tensor, right: te.Tensor, attrs: dict[str, str], bytewise: bool) -> te.Tensor:
    """Differing bits of every row of ``left`` and column of ``right``, int32 (rows of a tile, tiles, columns).

    Rows come first because the schedule makes its tile of the second axis from the end but one.
    """
    tiles, rows, words = left.shape
    panels, _, panel = (int(extent) for extent in right.shape)
    shape = extents(rows, tiles, panels * panel)

    def bits(at: tuple[tirx.Var, ...], _y: tvm.ir.Expr, _x: tvm.ir.Expr, c: tvm.ir.Expr) -> tvm.ir.Expr:
        y, t, o = at
        return left[t, y, c] ^ right[o // panel, c, o % panel]

    if bytewise and int(words) > 1:
        return count_by_bytes(bits, shape, (1, 1, int(words)), attrs)
    (rc,) = reduce_axes(rc=words)
    return te.compute(
        shape,
        lambda *at: te.sum(tirx.popcount(bits(at, rc, rc, rc)).astype("int32"), axis=[rc]),
        name="xnor_gemm",
        attrs=attrs,
    )


def _in_rows(func: tirx.PrimFunc, lanes: int, n: int) -> tirx.PrimFunc:
    """Write the product where it belongs, (tiles, rows of a tile, n).

    The last vectors overlap as they do in `pack_columns`: they store the same values twice, which an expression of TE
    cannot say, and need no mask.
    """
    sch = Schedule(tvm.IRModule({"main": func}))
    sch.transform_layout(
        "product",
        ("write", 0),
        lambda y, t, o: [t, y, vector_start(o // lanes, lanes, n) + o % lanes],
        assume_injective_transform=True,
    )
    return sch.mod["main"]


def make_xnor_gemm(
    problem: XnorGemmProblem,
    knobs: XnorGemmKnobs | XnorGemmGpuKnobs,
    machine: Machine,
    rng: np.random.Generator,
) -> Sample:
    """`xnor_gemm` alone, with `MANY_ROWS`."""
    a = rng.standard_normal((MANY_ROWS, problem.inner), np.float32)
    b = rng.standard_normal((problem.inner, problem.columns), np.float32)
    tiles = -(-MANY_ROWS // knobs.tile_h)

    def reference() -> np.ndarray:
        rows = [(0, tiles * knobs.tile_h - MANY_ROWS), (0, 0)]
        return np.pad(xnor_gemm_reference(a, b), rows, "edge").reshape(tiles, knobs.tile_h, -1)

    func = xnor_gemm(problem, knobs, not machine.counts_words)
    return Sample(func, (a, b), reference, (tiles, knobs.tile_h, problem.columns))


register_operator("xnor_gemm", XnorGemmProblem)
register_knobs("llvm", "xnor_gemm", XnorGemmKnobs, make_xnor_gemm)
register_knobs("cuda", "xnor_gemm", XnorGemmGpuKnobs, make_xnor_gemm)
