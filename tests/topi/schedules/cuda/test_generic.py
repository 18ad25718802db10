"""What no template takes: element-wise nests and sums, bound to blocks and threads."""

import numpy as np
import pytest
from tvm import te, tirx

from tests.close import assert_close
from tests.cuda.emulate import TARGET, launches, run_in_all_orders
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cuda.generic import FEW_RESULTS

MACHINE = machine_of(TARGET)

# Float32 sums of a few hundred terms in another order.
TOLERANCE = 2e-6


def _scheduled(inputs: list[te.Tensor], result: te.Tensor) -> tirx.PrimFunc:
    return schedule_primfunc(te.create_prim_func([*inputs, result]), MACHINE)


def _sums(rows: int | tirx.Var, *terms: int) -> tirx.PrimFunc:
    x = te.placeholder((rows, *terms), "float32", name="x")
    axes = [te.reduce_axis((0, size)) for size in terms]
    return _scheduled([x], te.compute((rows,), lambda i: te.sum(x[(i, *axes)], axis=axes), name="sums"))


@pytest.mark.parametrize("rows", [1, 5, 6, 8])
@pytest.mark.parametrize("terms", [(64,), (100,), (3, 7, 11)])
def test_long_sums_are_shared_by_a_warp(rows: int, terms: tuple[int, ...]) -> None:
    func = _sums(rows, *terms)
    x = np.random.default_rng(0).standard_normal((rows, *terms), np.float32)
    got = run_in_all_orders(func, [x], [rows], "float32")
    assert_close(got, x.reshape(rows, -1).sum(1), TOLERANCE)
    (launch,) = launches(func)
    assert launch.block[0] == 32


@pytest.mark.parametrize(("rows", "terms"), [(5, 63), (FEW_RESULTS + 1, 64)])
def test_short_and_many_sums_have_a_thread_each(rows: int, terms: int) -> None:
    func = _sums(rows, terms)
    x = np.random.default_rng(0).standard_normal((rows, terms), np.float32)
    assert_close(run_in_all_orders(func, [x], [rows], "float32"), x.sum(1), TOLERANCE)
    (launch,) = launches(func)
    assert launch.block[0] == 256


def test_a_sum_of_everything() -> None:
    x = te.placeholder((9, 33), "float32", name="x")
    axes = [te.reduce_axis((0, size)) for size in (9, 33)]
    func = _scheduled([x], te.compute((), lambda: te.sum(x[tuple(axes)], axis=axes), name="total"))
    values = np.random.default_rng(0).standard_normal((9, 33), np.float32)
    assert_close(run_in_all_orders(func, [values], [], "float32"), values.sum(), TOLERANCE)


@pytest.mark.parametrize("shape", [(1,), (3, 7), (2, 5, 8), (300, 4)])
def test_elements_of_any_number(shape: tuple[int, ...]) -> None:
    x = te.placeholder(shape, "float32", name="x")
    func = _scheduled([x], te.compute(shape, lambda *at: x[at] + tirx.const(1.0, "float32"), name="more"))
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    np.testing.assert_array_equal(run_in_all_orders(func, [values], shape, "float32"), values + 1)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64"])
def test_types_without_vectors(dtype: str) -> None:
    x = te.placeholder((6, 8), "float32", name="x")
    func = _scheduled(
        [x], te.compute((6, 8), lambda *at: (x[at] > tirx.const(0, "float32")).astype(dtype), name="signs")
    )
    values = np.random.default_rng(0).standard_normal((6, 8), np.float32)
    np.testing.assert_array_equal(
        run_in_all_orders(func, [values], (6, 8), dtype), (values > 0).astype(dtype)
    )


@pytest.mark.parametrize("rows", [1, 5])
def test_sums_of_any_number_of_rows(rows: int) -> None:
    func = _sums(tirx.Var("rows", "int64"), 64)
    x = np.random.default_rng(0).standard_normal((rows, 64), np.float32)
    assert_close(run_in_all_orders(func, [x], [rows], "float32"), x.sum(1), TOLERANCE)
