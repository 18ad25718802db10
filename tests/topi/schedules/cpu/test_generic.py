"""The schedule of last resort, on functions that no template takes."""

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax, te

from tvm_fastconv.relay_passes import PASS_CONFIG
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.schedules import schedule_primfunc

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})


@pytest.mark.parametrize("rows", [3, "rows"])
def test_a_scalar_is_spread_over_a_tensor_of_any_batch(rows: int | str) -> None:
    scalar = te.placeholder((), "float32")
    size = te.var(rows) if isinstance(rows, str) else rows
    filled = te.compute((size, 5), lambda i, j: scalar() + 1)
    func = te.create_prim_func([scalar, filled])
    scheduled = schedule_primfunc(func.with_attr("target", TARGET), machine_of(TARGET))
    out = tvm.runtime.empty((3, 5), "float32")
    tvm.compile(scheduled, TARGET)(tvm.runtime.tensor(np.float32(2)), out)
    np.testing.assert_array_equal(out.numpy(), np.full((3, 5), 3, "float32"))


def test_a_scalar_joins_a_sum() -> None:
    scalar, x = te.placeholder((), "float32"), te.placeholder((4, 8), "float32")
    axis = te.reduce_axis((0, 4))
    summed = te.compute((8,), lambda j: te.sum(x[axis, j] * scalar(), axis))
    scheduled = schedule_primfunc(te.create_prim_func([scalar, x, summed]), machine_of(TARGET))
    values, out = np.arange(32, dtype="float32").reshape(4, 8), tvm.runtime.empty((8,), "float32")
    tvm.compile(scheduled, TARGET)(tvm.runtime.tensor(np.float32(2)), tvm.runtime.tensor(values), out)
    np.testing.assert_array_equal(out.numpy(), 2 * values.sum(0))


# By position, one value or another is stored; 9 is no multiple of any vector.
CHOOSE: dict[str, tuple[Callable, Callable]] = {
    "concat": (lambda x: relax.op.concat([x, x], 2), lambda x: np.concatenate([x, x], 2)),
    "pad": (
        lambda x: relax.op.nn.pad(x, [0, 0, 1, 0, 1, 2]),
        lambda x: np.pad(x, [(0, 0), (1, 0), (1, 2)]),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64"])
@pytest.mark.parametrize("name", CHOOSE)
def test_values_chosen_by_position(name: str, dtype: str) -> None:
    ours, reference = CHOOSE[name]
    x = np.arange(3 * 5 * 9).reshape(3, 5, 9).astype(dtype)
    builder = relax.BlockBuilder()
    data = relax.Var("x", relax.TensorType(x.shape, dtype))
    with builder.function("main", [data]):
        with builder.dataflow():
            result = builder.emit_output(ours(data))
        builder.emit_func_output(result)
    with tvm.transform.PassContext(config=PASS_CONFIG):
        executable = tvm.compile(builder.get(), TARGET, relax_pipeline="fastconv")
    got = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x)).numpy()
    np.testing.assert_array_equal(got, reference(x))
