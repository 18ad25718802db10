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
from tvm import tirx

from .dense import dense_reference
from .machine import Machine
from .operators import Sample, operator_attrs, register_knobs, register_operator
from .problem import Problem
from .schedules.cpu.lookup_dense import LookupDenseKnobs
from .schedules.cuda.lookup_dense import GpuLookupDenseKnobs
from .schedules.registry import body_of
from .sparse_lists import ListedRows, SparseRows


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
    batch: int | tirx.Var,
    columns: int,
    outputs: int,
    weight: SparseRows | ListedRows,
    attrs: dict[str, str],
    kind: str = "llvm",
    **how: int,
) -> tirx.PrimFunc:
    """Build the product of float32 (batch, columns) with the sparse matrix.

    Parameters
    ----------
    batch : int or Var
    columns, outputs : int
    weight : SparseRows or ListedRows
        In the form that the knobs in ``attrs`` ask for; for its sizes and types; its arrays are arguments.
    attrs : dict
        Annotations of the anchor block.
    kind : str
        Of target, whose loops these are.
    how : int
        ``unit_axes``, of the result between its two, where the knobs of the kind allow any.

    Returns
    -------
    PrimFunc
        (data, *arrays of ``weight``, result); ``result`` float32 (batch, outputs).
    """
    return body_of(kind, "lookup_dense")(batch, columns, outputs, weight, attrs, **how)


def make_lookup_dense(
    problem: LookupDenseProblem,
    knobs: LookupDenseKnobs | GpuLookupDenseKnobs,
    machine: Machine,
    rng: np.random.Generator,
) -> Sample:
    """`lookup_dense` alone, its nonzeros anywhere."""
    data = rng.standard_normal((problem.batch, problem.inputs), np.float32)
    weight = rng.standard_normal((problem.outputs, problem.inputs), np.float32)
    weight.reshape(-1)[rng.choice(weight.size, weight.size - problem.nonzeros, replace=False)] = 0
    rows, attrs = knobs.lists(weight), operator_attrs("lookup_dense", problem, knobs)
    func = lookup_dense(problem.batch, problem.inputs, problem.outputs, rows, attrs, kind=machine.kind)
    return Sample(func, (data, *rows.arrays), lambda: lookup_dense_reference(data, weight))


register_operator("lookup_dense", LookupDenseProblem)
register_knobs("llvm", "lookup_dense", LookupDenseKnobs, make_lookup_dense)
register_knobs("cuda", "lookup_dense", GpuLookupDenseKnobs, make_lookup_dense)
