import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_fastconv.relay_passes.dense.dispatch_dense import DispatchDense
from tvm_fastconv.relay_passes.graph.rewrite import op_name
from tvm_fastconv.relay_passes.layout.dispatch_transpose import DispatchTranspose
from tvm_fastconv.relay_passes.pipeline import canonicalize
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.planner import Planner

from ..evaluate import evaluate

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})
PLANNER = Planner(machine_of(TARGET))


def _module(shape: tuple, axes: list[int] | None, dtype: str = "float32") -> tvm.IRModule:
    """``permute_dims(x)``; a name in the shape is a dynamic size."""
    sizes = [tvm.tirx.Var(n, "int64") if isinstance(n, str) else n for n in shape]
    x = relax.Var("x", relax.TensorType(sizes, dtype))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(relax.op.permute_dims(x, axes))
        builder.emit_func_output(y)
    return builder.get()


def _operator(mod: tvm.IRModule) -> str | None:
    return op_name(mod["main"].body.blocks[0].bindings[0].value)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 8, 5, 6), [0, 2, 3, 1]),
        ((2, 5, 6, 8), [0, 3, 1, 2]),
        (("n", 5, 6, 8), [0, 3, 1, 2]),
        ((3, 2, 17, 9), [0, 1, 3, 2]),
        ((7, 9), [1, 0]),
        ((2, 3, 4, 5), [2, 3, 0, 1]),
    ],
)
def test_exchanged_groups_of_axes_become_ours(shape: tuple, axes: list[int]) -> None:
    mod = _module(shape, axes)
    dispatched = DispatchTranspose(PLANNER)(mod)
    assert _operator(dispatched) == "call_tir"
    data = np.random.default_rng(0).standard_normal([3 if n == "n" else n for n in shape], np.float32)
    with tvm.transform.PassContext():
        executable = tvm.compile(dispatched, TARGET)
    got = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(data)).numpy()
    np.testing.assert_array_equal(got, evaluate(mod, data))


@pytest.mark.parametrize(
    ("shape", "axes", "dtype"),
    [
        ((1, 8, 5, 6), [0, 3, 2, 1], "float32"),
        ((4, 5, 6), None, "float32"),
        ((1, 3, 50, 60), [0, 2, 3, 1], "float32"),
        ((1, 8, "h", 6), [0, 2, 3, 1], "float32"),
        ((1, 8, 5, 6), [0, 2, 3, 1], "int32"),
        ((1, 8, 5, 6), [0, 1, 2, 3], "float32"),
    ],
)
def test_everything_else_stays(shape: tuple, axes: list[int] | None, dtype: str) -> None:
    mod = _module(shape, axes, dtype)
    tvm.ir.assert_structural_equal(DispatchTranspose(PLANNER)(mod), mod)


@pytest.mark.parametrize(
    ("channels", "operators"),
    [(3, ["conv2d", "permute_dims"]), (8, ["permute_dims", "conv2d", "permute_dims"])],
)
def test_a_convolution_reads_an_image_in_place_but_not_many_channels(
    channels: int, operators: list[str]
) -> None:
    mod = tvm.IRModule()
    x = relax.Var("x", relax.TensorType((1, channels, 9, 9), "float32"))
    builder = relax.BlockBuilder(mod)
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(x, relax.const(np.ones((16, channels, 1, 1), np.float32))))
            result = builder.emit_output(y)
        builder.emit_func_output(result)
    with TARGET:
        mod = tvm.transform.Sequential([*canonicalize(PLANNER.machine), DispatchDense(PLANNER)])(
            builder.get()
        )
    values = [binding.value for binding in mod["main"].body.blocks[0].bindings]
    found = ["conv2d" if op_name(value) == "call_tir" else op_name(value) for value in values]
    assert [name for name in found if name] == operators
