"""Fully connected layer with sparse constant weights: one dot product over a filter's nonzeros for every output.

Convolutions whose kernel covers the whole plane are the same on the flattened input, and so are LCNN's fully connected
layers behind their dictionary (Bagherinezhad et al., LCNN, arXiv:1611.06473, section 3).
"""

from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from .window import extents

CHAINS = 4
"""Sums side by side, which hide the latency of the multiply-adds."""


@dataclass(frozen=True)
class SparseRows:
    """The nonzeros of a matrix, row by row.

    Attributes
    ----------
    offsets : ndarray, (nonzeros,), uint16, or int32 where that is too short
        Columns.
    coefficients : ndarray, (nonzeros,), float32
    first : ndarray, (rows + 1,), int32
        Where each row begins, and the end.
    """

    offsets: np.ndarray
    coefficients: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray) -> "SparseRows":
        """Of a dense matrix (o, k)."""
        row, column = np.nonzero(weight)
        return cls(
            column.astype(np.uint16 if weight.shape[1] <= 1 << 16 else np.int32),
            weight[row, column].astype(np.float32),
            np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(weight)))]).astype(np.int32),
        )


def lookup_dense_reference(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``data @ weight.T`` in float64; ``data`` (n, k), ``weight`` (o, k), result (n, o) float32."""
    return (data.astype(np.float64) @ weight.astype(np.float64).T).astype(np.float32)


def lookup_dense(
    rows: int | tirx.Var, columns: int, weight: SparseRows, attrs: dict[str, str]
) -> tirx.PrimFunc:
    """Build the product of float32 (rows, columns) with the sparse matrix.

    Parameters
    ----------
    rows : int or Var
    columns : int
    weight : SparseRows
        For its number and type; its arrays are arguments.
    attrs : dict
        Annotations of the anchor block.

    Returns
    -------
    PrimFunc
        (data, offsets, coefficients, first, result); ``result`` float32 (rows, o).
    """
    outputs = weight.first.size - 1
    arrays = (weight.offsets, weight.coefficients, weight.first)
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True})
        data = build.arg("data", build.buffer(extents(rows, columns), "float32"))
        lists = [
            build.arg(name, build.buffer(extents(array.size), str(array.dtype)))
            for name, array in zip(("offsets", "coefficients", "first"), arrays, strict=True)
        ]
        result = build.arg("result", build.buffer(extents(rows, outputs), "float32"))
        with (
            build.sblock("root"),
            build.parallel(*extents(0, rows * outputs)) as task,
            build.sblock("lookup_dense"),
        ):
            at = tirx.floordiv(task, outputs), tirx.floormod(task, outputs)
            n, o = (build.axis.spatial(e, v) for e, v in zip(extents(rows, outputs), at, strict=True))
            build.reads(data[n, 0:columns], *(each[0 : each.shape[0]] for each in lists))
            build.writes(result[n, o])
            build.sblock_attr(attrs)
            _dot_product(data, lists, result, n, o)
    return builder.get()


def _dot_product(
    data: tirx.Buffer, lists: list[tirx.Buffer], result: tirx.Buffer, n: tirx.Var, o: tirx.Var
) -> None:
    offsets, coefficients, first = lists
    held = build.sblock_alloc_buffer(extents(CHAINS), "float32", scope="local")

    def add(chain: int, t: tirx.Var) -> None:
        value = coefficients[t] * data[n, offsets[t].astype("int64")]
        build.buffer_store(held, held[chain] + value, [chain])

    for chain in range(CHAINS):
        build.buffer_store(held, 0.0, [chain])
    start, end = (build.bind(first[o + i].astype("int64")) for i in range(2))
    whole = build.bind(tirx.floordiv(end - start, CHAINS))
    with build.serial(*extents(0, whole)) as step:
        for chain in range(CHAINS):
            add(chain, start + step * CHAINS + chain)
    with build.serial(start + whole * CHAINS, end) as t:
        add(0, t)
    build.buffer_store(result, (held[0] + held[1]) + (held[2] + held[3]), [n, o])
