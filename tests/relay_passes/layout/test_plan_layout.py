from collections.abc import Callable

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_fastconv.relay_passes.graph.layer_names import layer_name, with_layer_name
from tvm_fastconv.relay_passes.graph.rewrite import op_name
from tvm_fastconv.relay_passes.layout.plan_layout import PlanLayout

from ...close import assert_close
from ..evaluate import evaluate

op = relax.op
KERNEL = np.random.default_rng(0).standard_normal((8, 8, 3, 3), np.float32)


def _module(body: Callable[[relax.BlockBuilder, relax.Expr], relax.Expr]) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 8, 6, 10), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(body(builder, x))
        builder.emit_func_output(result)
    return builder.get()


def _conv(builder: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
    call = op.nn.conv2d(x, relax.const(KERNEL), padding=1)
    return builder.emit(with_layer_name(call, "body.conv"))


def _shuffle(bb: relax.BlockBuilder, y: relax.Expr) -> relax.Expr:
    y = bb.emit(op.reshape(y, (2, 2, 4, 6, 10)))
    return bb.emit(op.reshape(bb.emit(op.permute_dims(y, (0, 2, 1, 3, 4))), (2, 8, 6, 10)))


def _swap_halves(bb: relax.BlockBuilder, y: relax.Expr) -> relax.Expr:
    halves = bb.emit(op.split(y, 2, 1))
    return bb.emit(op.concat([bb.emit(relax.TupleGetItem(halves, i)) for i in (1, 0)], 1))


BETWEEN: dict[str, tuple[Callable[[relax.BlockBuilder, relax.Expr], relax.Expr], int]] = {
    "relu": (lambda bb, y: bb.emit(op.nn.relu(y)), 2),
    "clip": (lambda bb, y: bb.emit(op.clip(y, 0, 6)), 2),
    "bias": (lambda bb, y: bb.emit(op.add(y, relax.const(np.arange(8, dtype="float32").reshape(1, 8, 1, 1)))), 2),
    "bias of rank 3": (
        lambda bb, y: bb.emit(op.add(relax.const(np.arange(8, dtype="float32").reshape(8, 1, 1)), y)), 2),
    "row vector": (lambda bb, y: bb.emit(op.multiply(y, relax.const(np.arange(10, dtype="float32")))), 2),
    "concat": (lambda bb, y: bb.emit(op.strided_slice(bb.emit(op.concat([y, y], 1)), [1], [3], [11])), 4),
    "split": (_swap_halves, 2),
    "channel shuffle": (_shuffle, 2),
    "max pool": (lambda bb, y: bb.emit(op.nn.max_pool2d(y, (3, 3), padding=1)), 2),
    "squeeze-excite": (
        lambda bb, y: bb.emit(op.multiply(y, bb.emit(op.sigmoid(bb.emit(op.mean(y, [2, 3], True)))))), 2),
    "scaled by its mean": (lambda bb, y: bb.emit(op.multiply(y, bb.emit(op.mean(y)))), 3),
    "pad": (lambda bb, y: bb.emit(op.strided_slice(bb.emit(op.nn.pad(y, [0, 0, 0, 0, 1, 0, 0, 2])), [2], [1], [7])), 4),
    "softmax over channels": (lambda bb, y: bb.emit(op.nn.softmax(y, 1)), 2),
    "residual": (lambda bb, y: bb.emit(op.add(y, _conv(bb, y))), 2),
}  # fmt: skip


@pytest.mark.parametrize("name", BETWEEN)
def test_between_two_convolutions(name: str) -> None:
    """The result is the same, and where an operator knows both orders only the borders carry a transpose."""
    middle, transposes = BETWEEN[name]
    before = _module(lambda bb, x: _conv(bb, middle(bb, _conv(bb, x))))
    after = PlanLayout("NHWC")(before)
    x = np.random.default_rng(1).standard_normal((2, 8, 6, 10), np.float32)
    want = evaluate(before, x)
    # 1e-5: sums of 72 terms in another order, twice
    assert_close(evaluate(after, x), want, 1e-5)
    calls = [b.value for block in after["main"].body.blocks for b in block.bindings]
    moves = [c for c in calls if op_name(c) == "permute_dims" and len(c.attrs.axes) == 4]
    assert len(moves) <= transposes
    assert {layer_name(c) for c in calls if op_name(c) == "nn.conv2d"} == {"body.conv"}


def test_pooled_features_leave_without_a_transpose() -> None:
    after = PlanLayout("NHWC")(_module(lambda bb, x: bb.emit(op.mean(_conv(bb, x), [2, 3]))))
    ops = [op_name(b.value) for block in after["main"].body.blocks for b in block.bindings]
    assert ops == ["permute_dims", "nn.conv2d", "mean"]


def test_before_and_after() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 2, 4, 4), "float32")) -> R.Tensor((1, 2, 2, 2), "float32"):
            with R.dataflow():
                a = R.nn.max_pool2d(x, (2, 2), (2, 2))
                b = R.nn.relu(a)
                R.output(b)
            return b

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor((1, 2, 4, 4), "float32")) -> R.Tensor((1, 2, 2, 2), "float32"):
            with R.dataflow():
                t = R.permute_dims(x, (0, 2, 3, 1))
                a = R.nn.max_pool2d(t, (2, 2), (2, 2), layout="NHWC")
                b = R.nn.relu(a)
                u = R.permute_dims(b, (0, 3, 1, 2))
                R.output(u)
            return u

    assert tvm_ffi.structural_equal(PlanLayout("NHWC")(Before), After, map_free_vars=True)


def test_what_has_no_planes_is_left_alone() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 8), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(op.nn.softmax(x, 1))
        builder.emit_func_output(result)
    before = builder.get()
    assert tvm_ffi.structural_equal(PlanLayout("NHWC")(before)["main"], before["main"], map_free_vars=True)
