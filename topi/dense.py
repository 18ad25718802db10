"""Fully connected layer: the register tile of `conv2d` over rows instead of pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import te, tirx

from .conv2d import pack_weight
from .machine import Machine
from .matrix_product import matrix_product, product_result, rows_of, unravel
from .operators import Sample, activated_sample, operator_attrs, register_knobs, register_operator
from .problem import Problem
from .product_steps import Steps
from .schedules.cpu.tile import TileKnobs, TileLoops
from .schedules.cuda.gemm_knobs import GemmKnobs, GemmLoops
from .window import extents, reduce_axes, stage


@dataclass(frozen=True, kw_only=True)
class MatmulProblem(Problem):
    """``batch`` products of (rows, inner) by (inner, columns)."""

    rows: int
    inner: int
    columns: int

    @property
    def loops(self) -> TileLoops:
        """As the register tile sees it: rows for pixels."""
        return TileLoops(
            batch=self.batch,
            height=1,
            width=self.rows,
            out_channels=self.columns,
            groups=1,
            reduction=self.inner,
            strip_row_bytes=4 * self.inner * self.rows,
            weight_bytes=4 * self.inner * self.columns,
            neighbours=self.inner,
        )

    @property
    def gemm_loops(self) -> GemmLoops:
        """As a matrix product sees it."""
        return GemmLoops(
            batch=self.batch,
            rows=self.rows,
            columns=self.columns,
            taps=1,
            depth=self.inner,
            input_bytes=4 * self.batch * self.rows * self.inner,
        )


def dense_reference(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``data @ weight.T`` in float64; ``data`` (..., k), ``weight`` (o, k), result (..., o) float32."""
    return (data.astype(np.float64) @ weight.astype(np.float64).T).astype(np.float32)


def dense(
    data: te.Tensor, weight: te.Tensor, out_features: int, tile: TileKnobs | GemmKnobs, attrs: dict[str, str]
) -> te.Tensor:
    """Multiply the rows of ``data`` by packed ``weight``.

    Parameters
    ----------
    data : Tensor, (..., rows, k), float32
    weight : Tensor, (panels, 1, 1, k, panel)
        From `conv2d.pack_weight` of an (o, k, 1, 1) kernel.
    attrs : dict
        Annotations of the anchor block.

    Returns
    -------
    Tensor, (..., rows, out_features)
    """
    panels, _, _, inner, panel = (int(extent) for extent in weight.shape)
    if isinstance(tile, GemmKnobs):
        *lead, _ = data.shape
        rows, steps, zero = rows_of(lead), Steps.of(1, inner, tile.tile_k), tirx.const(0.0, "float32")

        def left(step: tirx.Var, term: tirx.Var, m: tirx.Var) -> tvm.ir.Expr:
            _, k = steps.place(step, term)
            return tirx.if_then_else(tirx.all(m < rows, k < inner), data[(*unravel(m, lead), k)], zero)

        def right(step: tirx.Var, term: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
            _, k = steps.place(step, term)
            value = weight[o // panel, 0, 0, k, o % panel]
            return tirx.if_then_else(k < inner, value, zero) if steps.is_padded else value

        sums = matrix_product(left, right, rows, panels * panel, steps, tile, attrs)
        return product_result(sums, tile.slices, (*lead, out_features))

    def column(lead: tuple[tirx.Var, ...], o: tirx.Var, rc: tirx.Var) -> tvm.ir.Expr:
        return weight[o // panel, 0, 0, rc, o % panel]

    return rows_times_columns(data, column, panels * panel, out_features, tile, attrs, "dense")


def rows_times_columns(
    data: te.Tensor,
    column: Callable[[tuple[tirx.Var, ...], tirx.Var, tirx.Var], tvm.ir.Expr],
    columns: int,
    out_features: int,
    tile: TileKnobs,
    attrs: dict[str, str],
    name: str,
) -> te.Tensor:
    """Multiply the rows of ``data``, in whole tiles, by ``columns`` columns, of which ``out_features`` are kept.

    ``column(lead, o, k)`` is row ``k`` of column ``o`` for the leading indices ``lead``.
    """
    *lead, rows, k = data.shape
    whole = -(-rows // tile.tile_w) * tile.tile_w
    window = data
    if not isinstance(rows, int | tirx.IntImm) or int(whole) != int(rows):
        zero = tirx.const(0, data.dtype)
        window = te.compute(
            extents(*lead, whole, k),
            lambda *at: tirx.if_then_else(at[-2] < rows, data[at], zero),
            name="window",
            attrs=stage("window"),
        )
    (rc,) = reduce_axes(rc=k)

    def product(*at: tirx.Var) -> tvm.ir.Expr:
        return te.sum(window[(*at[:-1], rc)] * column(at[:-2], at[-1], rc), axis=[rc])

    sums = te.compute(extents(*lead, whole, columns), product, name=name, attrs=attrs)
    return te.compute(extents(*lead, rows, out_features), lambda *at: sums[at], name="crop")


def make_dense(
    problem: MatmulProblem, knobs: TileKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`dense` alone."""
    data = rng.standard_normal((problem.batch, problem.rows, problem.inner), np.float32)
    weight = rng.standard_normal((problem.columns, problem.inner), np.float32)
    arrays = (data, pack_weight(weight[:, :, None, None], knobs.panel))
    attrs = operator_attrs("dense", problem, knobs)
    how = {"out_features": problem.columns, "tile": knobs, "attrs": attrs}
    return activated_sample(dense, arrays, lambda: dense_reference(data, weight), problem.columns, rng, **how)


register_operator("dense", MatmulProblem)
register_knobs("llvm", "dense", TileKnobs, make_dense)
register_knobs("cuda", "dense", GemmKnobs, make_dense)
