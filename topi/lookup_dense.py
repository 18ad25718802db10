"""Fully connected layer with sparse constant weights: a vector of outputs, each adding up its own coefficients.

Convolutions whose kernel covers the whole plane are the same on the flattened input, and so are LCNN's fully connected
layers behind their dictionary (Bagherinezhad et al., LCNN, arXiv:1611.06473, section 3).

Outputs are sorted by their number of coefficients and taken in groups of one vector, so that the lanes of a group end
together and hardly a coefficient is padding. (One output after the other, with loops of its own length, takes four
times as long: the processor guesses every end wrong.) Inputs are taken in blocks that fit L1, and sums are resumed from
block to block.
"""

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from .sparse_lists import compact
from .window import extents

BLOCK = 6 * 1024
"""Inputs that stay in L1 beside the lists that pass by."""

MAX_CHUNKS, FULL_VECTORS = 8, 4
"""Parts of the outputs for parallelism, and how many vectors of them make a part worth having."""


@dataclass(frozen=True)
class SparseRows:
    """The nonzeros of a matrix (o, k), in groups of ``lanes`` rows for every chunk of rows and block of columns.

    Attributes
    ----------
    lanes, chunks, blocks : int
    offsets : ndarray, (steps · lanes,), uint16 or int32
        Columns. Each step of a group holds one for every lane.
    coefficients : ndarray, (steps · lanes,), float32
        0 where a row has no more.
    first : ndarray, (chunks · blocks · groups + 1,), uint16 or int32
        The step at which each group begins, and the end.
    rows : ndarray, (chunks · blocks · groups · lanes,), uint16 or int32
        Where the sum of each lane goes; behind the last row comes the row of its group's first lane again.
    """

    lanes: int
    chunks: int
    blocks: int
    offsets: np.ndarray
    coefficients: np.ndarray
    first: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray, lanes: int) -> "SparseRows":
        """Of a dense matrix (o, k)."""
        outputs = len(weight)
        worth = [
            n for n in range(1, MAX_CHUNKS + 1) if outputs % n == 0 and outputs >= n * FULL_VECTORS * lanes
        ]
        chunks, blocks = max(worth, default=1), -(-weight.shape[1] // BLOCK)
        offsets, coefficients, rows, steps = [], [], [], [0]
        for start in range(0, outputs, outputs // chunks):
            for column in range(0, weight.shape[1], BLOCK):
                part = weight[start : start + outputs // chunks, column : column + BLOCK]
                for group in _groups(part, lanes):
                    rows.append(start + group)
                    listed = _columns(part[group])
                    offsets.append(column + listed.reshape(-1))
                    coefficients.append(np.take_along_axis(part[group], listed.T, 1).T.reshape(-1))
                    steps.append(len(listed))
        return cls(
            lanes,
            chunks,
            blocks,
            compact(np.concatenate(offsets)),
            np.concatenate(coefficients).astype(np.float32),
            compact(np.cumsum(steps)),
            compact(np.concatenate(rows)),
        )

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the operator takes beside its input."""
        return self.offsets, self.coefficients, self.first, self.rows


def _groups(part: np.ndarray, lanes: int) -> list[np.ndarray]:
    """The rows of ``part`` by falling number of nonzeros, ``lanes`` at a time."""
    order = np.argsort(-np.count_nonzero(part, axis=1), kind="stable")
    last = order[-(len(order) % lanes) :] if len(order) % lanes else order[:0]
    filled = np.concatenate([order, np.repeat(last[:1], -len(order) % lanes)])
    return list(filled.reshape(-1, lanes))


def _columns(rows: np.ndarray) -> np.ndarray:
    """Columns of the nonzeros of each row, (steps, lanes), the shorter lists followed by columns of zeros."""
    steps = np.count_nonzero(rows, axis=1).max()
    return np.argsort(rows == 0, axis=1, kind="stable")[:, :steps].T


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
    names = ("offsets", "coefficients", "first", "rows")
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True})
        data = build.arg("data", build.buffer(extents(batch, columns), "float32"))
        lists = [
            build.arg(name, build.buffer(extents(array.size), str(array.dtype)))
            for name, array in zip(names, weight.arrays, strict=True)
        ]
        result = build.arg("result", build.buffer(extents(batch, outputs), "float32"))
        with (
            build.sblock("root"),
            build.parallel(*extents(0, batch * weight.chunks)) as task,
            build.sblock("lookup_dense"),
        ):
            at = tirx.floordiv(task, weight.chunks), tirx.floormod(task, weight.chunks)
            domain = extents(batch, weight.chunks)
            n, chunk = (build.axis.spatial(e, v) for e, v in zip(domain, at, strict=True))
            per_chunk = outputs // weight.chunks
            build.reads(data[n, 0:columns], *(each[0 : each.shape[0]] for each in lists))
            build.writes(result[n, chunk * per_chunk : (chunk + 1) * per_chunk])
            build.sblock_attr(attrs)
            _add_up(data, lists, result, (n, chunk), weight)
    return builder.get()


def _add_up(
    data: tirx.Buffer,
    lists: list[tirx.Buffer],
    result: tirx.Buffer,
    at: tuple[tirx.Var, tirx.Var],
    weight: SparseRows,
) -> None:
    """All groups of one chunk, block by block."""
    (offsets, coefficients, first, rows), (n, chunk), lanes = lists, at, weight.lanes
    groups = (weight.first.size - 1) // (weight.chunks * weight.blocks)
    held = build.sblock_alloc_buffer(extents(lanes), "float32", scope="local")
    register = [tirx.Ramp(tirx.IntImm("int64", 0), 1, lanes)]

    def vector(buffer: tirx.Buffer, at: tvm.ir.Expr) -> tvm.ir.Expr:
        return tirx.BufferLoad(buffer, [tirx.Ramp(at * lanes, 1, lanes)])

    with build.serial(*extents(0, weight.blocks)) as block, build.serial(*extents(0, groups)) as group:
        entry = build.bind((chunk * weight.blocks + block) * groups + group)
        target = [n, vector(rows, entry).astype(f"int64x{lanes}")]
        with build.If(block == 0):
            with build.Then():
                build.buffer_store(held, tirx.Broadcast(tirx.const(0, "float32"), lanes), register)
            with build.Else():
                build.buffer_store(held, tirx.BufferLoad(result, target), register)
        with build.serial(first[entry].astype("int64"), first[entry + 1].astype("int64")) as step:
            # Lane by lane: as one vector the offsets would be taken apart again, for 1.7 times the time (Zen 4).
            each = [offsets[step * lanes + lane].astype("int64") for lane in range(lanes)]
            column = tirx.Shuffle(each, [tirx.IntImm("int32", lane) for lane in range(lanes)])
            value = vector(coefficients, step) * tirx.BufferLoad(data, [n, column])
            build.buffer_store(held, tirx.BufferLoad(held, register) + value, register)
        build.buffer_store(result, tirx.BufferLoad(held, register), target)
