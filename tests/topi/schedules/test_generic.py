"""Functions that no template takes."""

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_fastconv.relay_passes import PASS_CONFIG

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})

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
