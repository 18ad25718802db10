import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_fastconv.relay_passes import PASS_CONFIG
from tvm_fastconv.relay_passes.dense.dispatch_batch_matmul import DispatchBatchMatmul
from tvm_fastconv.relay_passes.graph.rewrite import op_name
from tvm_fastconv.relay_passes.module.collect_layers import recorded_calls
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.planner import Planner

from ...close import assert_close
from ..evaluate import evaluate

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})
PLANNER = Planner(machine_of(TARGET))


def _module(a: tuple, b: tuple, dtype: str = "float32") -> tvm.IRModule:
    """``relu(a @ b)``; a name in a shape is a dynamic size."""
    names: dict[str, tvm.tirx.Var] = {}
    sizes = [
        [names.setdefault(n, tvm.tirx.Var(n, "int64")) if isinstance(n, str) else n for n in s]
        for s in (a, b)
    ]
    left, right = (relax.Var(name, relax.TensorType(s, dtype)) for name, s in zip("ab", sizes, strict=True))
    builder = relax.BlockBuilder()
    with builder.function("main", [left, right]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(left, right))
            result = builder.emit_output(relax.op.nn.relu(product))
        builder.emit_func_output(result)
    return builder.get()


def _calls(mod: tvm.IRModule) -> list[str | None]:
    bindings = [binding for block in mod["main"].body.blocks for binding in block.bindings]
    return [op_name(binding.value) for binding in bindings if op_name(binding.value)]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 17, 8), (3, 8, 20)),
        ((2, 3, 5, 7), (2, 3, 7, 9)),
        ((6, 4), (4, 5)),
        (("n", 17, 8), ("n", 8, 20)),
        ((3, "rows", 8), (3, 8, 20)),
    ],
)
def test_pairs_of_matrices_become_ours_with_what_follows_fused(a: tuple, b: tuple) -> None:
    mod = _module(a, b)
    assert _calls(DispatchBatchMatmul(PLANNER)(mod)) == ["call_tir", "nn.relu"]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal([3 if isinstance(n, str) else n for n in s], np.float32) for s in (a, b)]
    with tvm.transform.PassContext(config=PASS_CONFIG):
        executable = tvm.compile(mod, TARGET, relax_pipeline="fastconv")
    got = relax.VirtualMachine(executable, tvm.cpu())["main"](*map(tvm.runtime.tensor, arrays)).numpy()
    assert_close(got, evaluate(mod, *arrays), 1e-6)  # float32 sums of 8 terms in another order


def test_one_function_holds_the_product_and_the_relu() -> None:
    from tvm_fastconv.relay_passes import graph_passes

    with TARGET:
        fused = tvm.transform.Sequential(graph_passes(PLANNER))(_module((3, 17, 8), (3, 8, 20)))
    (call,) = recorded_calls(fused)
    assert call.function == "fused_batch_matmul_relu"
    assert len(call.layers) == 1


@pytest.mark.parametrize(
    ("a", "b", "dtype"),
    [
        ((3, 17, 8), (8, 20), "float32"),
        ((3, 17, 8), (1, 8, 20), "float32"),
        (("n", 17, 8), ("m", 8, 20), "float32"),
        ((3, 17, 8), (8,), "float32"),
        ((3, 17, "k"), (3, "k", 20), "float32"),
        ((3, 17, 8), (3, 8, "columns"), "float32"),
        ((3, 17, 8), (3, 8, 20), "float64"),
    ],
)
def test_everything_else_stays(a: tuple, b: tuple, dtype: str) -> None:
    mod = _module(a, b, dtype)
    tvm.ir.assert_structural_equal(DispatchBatchMatmul(PLANNER)(mod), mod)
