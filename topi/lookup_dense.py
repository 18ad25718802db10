"""Fully connected layer with sparse constant weights: a vector of outputs, each adding up its own coefficients.

Convolutions whose kernel covers the whole plane are the same on the flattened input, and so are LCNN's fully connected
layers behind their dictionary (Bagherinezhad et al., LCNN, arXiv:1611.06473, section 3).

Outputs are sorted by their number of coefficients and taken in groups of one vector, so that the lanes of a group end
together and hardly a coefficient is padding. (One output after the other, with loops of its own length, takes four
times as long: the processor guesses every end wrong.)
"""

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from .sparse_lists import compact
from .window import extents


@dataclass(frozen=True)
class SparseRows:
    """The nonzeros of a matrix (o, k) in groups of ``lanes`` rows.

    Attributes
    ----------
    offsets : ndarray, (steps · lanes,), uint16 or int32
        Columns. Each step of a group holds one for every lane.
    coefficients : ndarray, (steps · lanes,), float32
        0 where a row has no more.
    first : ndarray, (groups + 1,), uint16 or int32
        The step at which each group begins, and the end.
    rows : ndarray, (groups · lanes,), uint16 or int32
        Where the sum of each lane goes; behind the last row comes the row of its group's first lane again.
    """

    offsets: np.ndarray
    coefficients: np.ndarray
    first: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray, lanes: int) -> "SparseRows":
        """Of a dense matrix (o, k)."""
        outputs = len(weight)
        counts = np.count_nonzero(weight, axis=1)
        order = np.argsort(-counts, kind="stable")
        groups = -(-outputs // lanes)
        rows = np.concatenate([order, np.full(groups * lanes - outputs, order[(groups - 1) * lanes])])
        steps = counts[rows].reshape(groups, lanes).max(1)
        first = np.concatenate([[0], np.cumsum(steps)])
        offsets = np.zeros((first[-1], lanes), np.int64)
        coefficients = np.zeros((first[-1], lanes), np.float32)
        for place, row in enumerate(rows):
            at, count = first[place // lanes], counts[row]
            nonzero = np.flatnonzero(weight[row])
            offsets[at : at + count, place % lanes] = nonzero
            coefficients[at : at + count, place % lanes] = weight[row, nonzero]
        return cls(compact(offsets.reshape(-1)), coefficients.reshape(-1), compact(first), compact(rows))

    @property
    def lanes(self) -> int:
        """Rows of a group."""
        return self.rows.size // (self.first.size - 1)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the operator takes beside its input."""
        return self.offsets, self.coefficients, self.first, self.rows


def lookup_dense_reference(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``data @ weight.T`` in float64; ``data`` (n, k), ``weight`` (o, k), result (n, o) float32."""
    return (data.astype(np.float64) @ weight.astype(np.float64).T).astype(np.float32)


def lookup_dense(
    batch: int | tirx.Var, columns: int, outputs: int, weight: SparseRows, attrs: dict[str, str]
) -> tirx.PrimFunc:
    """Build the product of float32 (batch, columns) with the sparse matrix.

    Parameters
    ----------
    batch : int or Var
    columns, outputs : int
    weight : SparseRows
        For its sizes and types; its arrays are arguments.
    attrs : dict
        Annotations of the anchor block.

    Returns
    -------
    PrimFunc
        (data, offsets, coefficients, first, rows, result); ``result`` float32 (batch, outputs).
    """
    groups = weight.first.size - 1
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True})
        data = build.arg("data", build.buffer(extents(batch, columns), "float32"))
        names = ("offsets", "coefficients", "first", "rows")
        lists = [
            build.arg(name, build.buffer(extents(array.size), str(array.dtype)))
            for name, array in zip(names, weight.arrays, strict=True)
        ]
        result = build.arg("result", build.buffer(extents(batch, outputs), "float32"))
        with (
            build.sblock("root"),
            build.parallel(*extents(0, batch * groups)) as task,
            build.sblock("lookup_dense"),
        ):
            at = tirx.floordiv(task, groups), tirx.floormod(task, groups)
            n, group = (build.axis.spatial(e, v) for e, v in zip(extents(batch, groups), at, strict=True))
            build.reads(data[n, 0:columns], *(each[0 : each.shape[0]] for each in lists))
            build.writes(result[n, 0:outputs])
            build.sblock_attr(attrs)
            _dot_products(data, lists, result, n, group, weight.lanes)
    return builder.get()


def _dot_products(
    data: tirx.Buffer,
    lists: list[tirx.Buffer],
    result: tirx.Buffer,
    n: tirx.Var,
    group: tirx.Var,
    lanes: int,
) -> None:
    offsets, coefficients, first, rows = lists
    held = build.sblock_alloc_buffer(extents(lanes), "float32", scope="local")
    register = [tirx.Ramp(tirx.IntImm("int64", 0), 1, lanes)]
    build.buffer_store(held, tirx.Broadcast(tirx.const(0, "float32"), lanes), register)

    def vector(buffer: tirx.Buffer, at: tvm.ir.Expr) -> tvm.ir.Expr:
        return tirx.BufferLoad(buffer, [tirx.Ramp(at * lanes, 1, lanes)])

    with build.serial(first[group].astype("int64"), first[group + 1].astype("int64")) as step:
        column = vector(offsets, step).astype(f"int64x{lanes}")
        value = vector(coefficients, step) * tirx.BufferLoad(data, [n, column])
        build.buffer_store(held, tirx.BufferLoad(held, register) + value, register)
    build.buffer_store(
        result, tirx.BufferLoad(held, register), [n, vector(rows, group).astype(f"int64x{lanes}")]
    )
