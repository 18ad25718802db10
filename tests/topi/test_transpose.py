import math

import numpy as np
import pytest
import tvm

from tvm_fastconv.topi.transpose import TransposeKnobs, TransposeProblem, transpose, transpose_reference

from .run_operator import each_isa, machine, run_primfunc


@each_isa
@pytest.mark.parametrize(
    ("shape", "lead", "rows"),
    [
        ((1, 64, 56, 56), 1, 1),
        ((1, 56, 56, 64), 1, 2),
        ((3, 17, 7, 7), 1, 1),
        ((2, 5, 9, 40), 1, 2),
        ((1, 100, 1, 6), 1, 1),
        ((2, 3, 31, 33), 2, 1),
        ((20, 45), 0, 1),
    ],
)
def test_equals_the_reference(shape: tuple[int, ...], lead: int, rows: int, isa: str) -> None:
    data = np.random.default_rng(0).standard_normal(shape, np.float32)
    want = transpose_reference(data, lead, rows)
    batch, height, width = map(math.prod, (shape[:lead], shape[lead : lead + rows], shape[lead + rows :]))
    problem = TransposeProblem(batch=batch, rows=height, columns=width)
    knobs = TransposeKnobs.default(problem, machine(isa))
    assert knobs is not None
    func = transpose(shape, lead, rows, knobs.side)
    np.testing.assert_array_equal(run_primfunc(func, [data], list(want.shape), "float32", isa), want)


def test_symbolic_batch() -> None:
    func = transpose((tvm.tirx.Var("n", "int64"), 8, 5, 6), 1, 1, 8)
    data = np.random.default_rng(0).standard_normal((3, 8, 5, 6), np.float32)
    got = run_primfunc(func, [data], [3, 5, 6, 8], "float32", "avx2")
    np.testing.assert_array_equal(got, transpose_reference(data, 1, 1))


@pytest.mark.parametrize(
    ("rows", "columns", "side"),
    [(64, 49, 16), (12, 49, 8), (4, 100, 4), (3, 50176, None), (64, 1, None)],
)
def test_tiles_fit_the_matrix(rows: int, columns: int, side: int | None) -> None:
    knobs = TransposeKnobs.default(TransposeProblem(rows=rows, columns=columns), machine("avx512"))
    assert knobs == (None if side is None else TransposeKnobs(side=side))
