"""Operators whose loops decide about exact numbers."""

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.relay_passes import PASS_CONFIG

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})


def test_round_takes_halves_to_the_even_number_also_in_constants() -> None:
    halves = np.arange(-20, 21, dtype="float32") / 2  # 41: vectors and a rest
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(halves.shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            pair = [builder.emit(relax.op.round(value)) for value in (x, relax.const(halves))]
            result = builder.emit_output(relax.op.stack(pair))
        builder.emit_func_output(result)
    with tvm.transform.PassContext(config=PASS_CONFIG):
        executable = tvm.compile(builder.get(), TARGET, relax_pipeline="fastconv")
    got = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(halves)).numpy()
    np.testing.assert_array_equal(got, np.stack([np.rint(halves)] * 2))
