import numpy as np
import pytest
import tvm

from tvm_fastconv.topi.transpose import tile_side, transpose, transpose_reference

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
    side = tile_side(
        int(np.prod(shape[lead : lead + rows])), int(np.prod(shape[lead + rows :])), machine(isa).lanes
    )
    assert side is not None
    func = transpose(shape, lead, rows, side)
    np.testing.assert_array_equal(run_primfunc(func, [data], list(want.shape), "float32", isa), want)


def test_symbolic_batch() -> None:
    func = transpose((tvm.tirx.Var("n", "int64"), 8, 5, 6), 1, 1, 8)
    data = np.random.default_rng(0).standard_normal((3, 8, 5, 6), np.float32)
    got = run_primfunc(func, [data], [3, 5, 6, 8], "float32", "avx2")
    np.testing.assert_array_equal(got, transpose_reference(data, 1, 1))


@pytest.mark.parametrize(
    ("rows", "columns", "lanes", "side"),
    [(64, 49, 16, 16), (12, 49, 16, 8), (4, 100, 16, 4), (3, 50176, 16, None), (64, 1, 16, None)],
)
def test_tiles_fit_the_matrix(rows: int, columns: int, lanes: int, side: int | None) -> None:
    assert tile_side(rows, columns, lanes) == side
