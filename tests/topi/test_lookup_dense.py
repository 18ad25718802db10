import numpy as np
import pytest
import tvm

from tvm_fastconv.topi.lookup_dense import LookupDenseProblem, lookup_dense, lookup_dense_reference
from tvm_fastconv.topi.operators import operator_attrs
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cpu.lookup_dense import LookupDenseKnobs
from tvm_fastconv.topi.sparse_lists import SparseRows

from ..close import assert_close
from .run_operator import machine, run_primfunc

# Sums of up to a few hundred float32 products in another order.
TOLERANCE = 2e-6


def _sparse(outputs: int, columns: int, density: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((outputs, columns), np.float32) * (rng.random((outputs, columns)) < density)
    weight[:: max(3, outputs // 2)] = 0
    return weight


def _problem(weight: np.ndarray, rows: int = 1) -> LookupDenseProblem:
    outputs, inputs = weight.shape
    return LookupDenseProblem(
        batch=rows, inputs=inputs, outputs=outputs, nonzeros=int(np.count_nonzero(weight))
    )


@pytest.mark.parametrize("isa", ["avx512", "avx2"])
@pytest.mark.parametrize(
    ("rows", "outputs", "columns", "density"),
    [
        (1, 10, 300, 0.05),
        (3, 7, 5, 1.0),
        (2, 33, 64, 0.02),
        (1, 1, 1, 1.0),
        (1, 20, 70000, 0.001),
        (2, 640, 13000, 0.003),
    ],
)
def test_equals_the_reference(rows: int, outputs: int, columns: int, density: float, isa: str) -> None:
    weight = _sparse(outputs, columns, density)
    data = np.random.default_rng(1).standard_normal((rows, columns), np.float32)
    problem = _problem(weight, rows)
    knobs = LookupDenseKnobs.default(problem, machine(isa))
    sparse, attrs = SparseRows.of(weight, knobs), operator_attrs("lookup_dense", problem, knobs)
    func = schedule_primfunc(lookup_dense(rows, columns, outputs, sparse, attrs), machine(isa))
    got = run_primfunc(func, [data, *sparse.arrays], [rows, outputs], "float32", isa)
    want = lookup_dense_reference(data, weight)
    assert_close(got, want, TOLERANCE)
    assert (got[:, (weight == 0).all(1)] == 0).all()


def test_symbolic_batch() -> None:
    weight, data = _sparse(9, 40, 0.2), np.random.default_rng(1).standard_normal((3, 40), np.float32)
    problem = _problem(weight)
    knobs = LookupDenseKnobs.default(problem, machine("avx2"))
    sparse, attrs = SparseRows.of(weight, knobs), operator_attrs("lookup_dense", problem, knobs)
    func = lookup_dense(tvm.tirx.Var("n", "int64"), 40, 9, sparse, attrs)
    got = run_primfunc(
        schedule_primfunc(func, machine("avx2")), [data, *sparse.arrays], [3, 9], "float32", "avx2"
    )
    assert_close(got, lookup_dense_reference(data, weight), TOLERANCE)


def test_groups_of_like_rows_hold_little_padding() -> None:
    weight = _sparse(1000, 500, 0.05)
    sparse = SparseRows.of(weight, LookupDenseKnobs.default(_problem(weight), machine("avx512")))
    assert sparse.coefficients.size <= 1.1 * np.count_nonzero(weight)
    assert sorted(set(sparse.rows.tolist())) == list(range(1000))


def test_many_outputs_are_parallel_in_equal_parts() -> None:
    for outputs, chunks in ((1024, 8), (1000, 8), (70, 1)):
        weight = _sparse(outputs, 50, 0.1)
        knobs = LookupDenseKnobs.default(_problem(weight), machine("avx512"))
        assert knobs.chunks == SparseRows.of(weight, knobs).chunks == chunks
