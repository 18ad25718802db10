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

from .dense import dense_reference
from .machine import Machine
from .operators import Sample, operator_attrs, register_operator
from .problem import Problem
from .schedules.cpu.lookup_dense import LookupDenseKnobs
from .sparse_lists import SparseRows
from .window import extents


@dataclass(frozen=True, kw_only=True)
class LookupDenseProblem(Problem):
    """``batch`` rows of ``inputs`` by a matrix of which ``nonzeros`` are not 0."""

    inputs: int
    outputs: int
    nonzeros: int


def lookup_dense_reference(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`dense_reference`: ``data`` (n, k) by ``weight`` (o, k), result (n, o) float32."""
    return dense_reference(data, weight)


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


def make_lookup_dense(
    problem: LookupDenseProblem, knobs: LookupDenseKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`lookup_dense` alone, its nonzeros anywhere."""
    data = rng.standard_normal((problem.batch, problem.inputs), np.float32)
    weight = rng.standard_normal((problem.outputs, problem.inputs), np.float32)
    weight.reshape(-1)[rng.choice(weight.size, weight.size - problem.nonzeros, replace=False)] = 0
    rows, attrs = SparseRows.of(weight, knobs), operator_attrs("lookup_dense", problem, knobs)
    func = lookup_dense(problem.batch, problem.inputs, problem.outputs, rows, attrs)
    return Sample(func, (data, *rows.arrays), lambda: lookup_dense_reference(data, weight))


register_operator("lookup_dense", LookupDenseProblem, LookupDenseKnobs, make_lookup_dense)
