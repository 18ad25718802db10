"""Product of two computed matrices per batch, as in attention: the register tile over a second operand packed first."""

import numpy as np
import tvm
from tvm import te, tirx

from .dense import MatmulProblem, rows_times_columns
from .machine import Machine
from .matrix_product import matrix_product, product_result
from .operators import Sample, operator_attrs, register_knobs, register_operator, te_function
from .product_steps import Steps
from .schedules.cpu.tile import TileKnobs
from .schedules.cuda.gemm_knobs import GemmKnobs
from .window import extents


def batch_matmul_reference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a @ b`` in float64, result float32; ``a`` (..., m, k), ``b`` (..., k, o) with equal leading sizes."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)


def batch_matmul(a: te.Tensor, b: te.Tensor, tile: TileKnobs | GemmKnobs, attrs: dict[str, str]) -> te.Tensor:
    """Multiply matrices pairwise.

    Parameters
    ----------
    a : Tensor, (..., m, k), float32
    b : Tensor, (..., k, o), float32
        With the leading sizes of ``a``. Packed into panels of ``tile.panel`` columns on every call, which costs one
        pass over it for ``m`` passes saved.
    tile : TileKnobs
    attrs : dict
        Annotations of the anchor block.

    Returns
    -------
    Tensor, (..., m, o)
    """
    *lead, k, o = b.shape
    if isinstance(tile, GemmKnobs):
        return _as_products(a, b, tile, attrs)
    panel, depth = tile.panel, len(lead)
    panels, zero = -(-int(o) // panel), tirx.const(0, b.dtype)

    def entry(*at: tirx.Var) -> tvm.ir.Expr:
        index = at[depth] * panel + at[-1]
        value = b[(*at[:depth], at[depth + 1], index)]
        return value if int(o) % panel == 0 else tirx.if_then_else(index < o, value, zero)

    packed = te.compute(extents(*lead, panels, k, panel), entry, name="packed")

    def column(index: tuple[tirx.Var, ...], o: tirx.Var, rc: tirx.Var) -> tvm.ir.Expr:
        return packed[(*index, o // panel, rc, o % panel)]

    return rows_times_columns(a, column, panels * panel, int(o), tile, attrs, "batch_matmul")


def _as_products(a: te.Tensor, b: te.Tensor, knobs: GemmKnobs, attrs: dict[str, str]) -> te.Tensor:
    """Each as a `matrix_product`, whose sides are both where they are."""
    (*lead, rows, inner), columns = a.shape, b.shape[-1]
    steps, zero = Steps.of(1, int(inner), knobs.tile_k), tirx.const(0.0, "float32")

    def left(*at: tirx.Var) -> tvm.ir.Expr:
        *outer, step, term, m = at
        _, k = steps.place(step, term)
        return tirx.if_then_else(tirx.all(m < rows, k < inner), a[(*outer, m, k)], zero)

    def right(*at: tirx.Var) -> tvm.ir.Expr:
        *outer, step, term, o = at
        _, k = steps.place(step, term)
        return tirx.if_then_else(tirx.all(o < columns, k < inner), b[(*outer, k, o)], zero)

    sums = matrix_product(left, right, rows, int(columns), steps, knobs, attrs, lead)
    return product_result(sums, knobs.slices, (*lead, rows, columns), len(lead))


def make_batch_matmul(
    problem: MatmulProblem, knobs: TileKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`batch_matmul` alone."""
    a = rng.standard_normal((problem.batch, problem.rows, problem.inner), np.float32)
    b = rng.standard_normal((problem.batch, problem.inner, problem.columns), np.float32)
    attrs = operator_attrs("batch_matmul", problem, knobs)
    func = te_function(batch_matmul, (a, b), tile=knobs, attrs=attrs)
    return Sample(func, (a, b), lambda: batch_matmul_reference(a, b))


register_operator("batch_matmul", MatmulProblem)
register_knobs("llvm", "batch_matmul", TileKnobs, make_batch_matmul)
register_knobs("cuda", "batch_matmul", GemmKnobs, make_batch_matmul)
