"""The schedule of last resort, on functions that no template takes."""

import numpy as np
import pytest
import tvm
from tvm import te

from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules import schedule_primfunc

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})


@pytest.mark.parametrize("rows", [3, "rows"])
def test_a_scalar_is_spread_over_a_tensor_of_any_batch(rows: int | str) -> None:
    scalar = te.placeholder((), "float32")
    size = te.var(rows) if isinstance(rows, str) else rows
    filled = te.compute((size, 5), lambda i, j: scalar() + 1)
    func = te.create_prim_func([scalar, filled])
    scheduled = schedule_primfunc(func.with_attr("target", TARGET), Machine.of(TARGET))
    out = tvm.runtime.empty((3, 5), "float32")
    tvm.compile(scheduled, TARGET)(tvm.runtime.tensor(np.float32(2)), out)
    np.testing.assert_array_equal(out.numpy(), np.full((3, 5), 3, "float32"))


def test_a_scalar_joins_a_sum() -> None:
    scalar, x = te.placeholder((), "float32"), te.placeholder((4, 8), "float32")
    axis = te.reduce_axis((0, 4))
    summed = te.compute((8,), lambda j: te.sum(x[axis, j] * scalar(), axis))
    scheduled = schedule_primfunc(te.create_prim_func([scalar, x, summed]), Machine.of(TARGET))
    values, out = np.arange(32, dtype="float32").reshape(4, 8), tvm.runtime.empty((8,), "float32")
    tvm.compile(scheduled, TARGET)(tvm.runtime.tensor(np.float32(2)), tvm.runtime.tensor(values), out)
    np.testing.assert_array_equal(out.numpy(), 2 * values.sum(0))
