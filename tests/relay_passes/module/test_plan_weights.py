import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_fastconv.relay_passes.module.plan_weights import WEIGHTS_ATTR, PlanWeights

rng = np.random.default_rng(0)
W = rng.standard_normal((4, 4)).astype("float32")


def module(*constants):
    """main(x): x + c0 + c1 ..., one binding each."""
    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 4), "float32"))
    with bb.function("main", [x]):
        with bb.dataflow():
            y = x
            for constant in constants[:-1]:
                y = bb.emit(relax.op.add(y, relax.const(constant)))
            y = bb.emit_output(relax.op.add(y, relax.const(constants[-1])))
        bb.emit_func_output(y)
    return bb.get()


def weights(mod):
    return [tensor.numpy() for tensor in PlanWeights()(mod).attrs[WEIGHTS_ATTR]]


def test_before_after():
    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")) -> R.Tensor((4, 4), "float32"):
            with R.dataflow():
                w0: R.Tensor((4, 4), "float32") = R.call_pure_packed(
                    "fastconv_weight", R.prim_value(0), ty_args=R.Tensor((4, 4), "float32")
                )
                lv = R.add(x, w0)
                lv1 = R.add(lv, R.const(2, "float32"))
                w1: R.Tensor((4,), "float32") = R.call_pure_packed(
                    "fastconv_weight", R.prim_value(1), ty_args=R.Tensor((4,), "float32")
                )
                lv2 = R.add(lv1, w1)
                w2: R.Tensor((4, 4), "float32") = R.call_pure_packed(
                    "fastconv_weight", R.prim_value(0), ty_args=R.Tensor((4, 4), "float32")
                )
                gv = R.add(lv2, w2)
                R.output(gv)
            return gv

    after = PlanWeights()(module(W, np.float32(2), W[0], W.copy()))["main"]
    tvm.ir.assert_structural_equal(
        after.without_attr("global_symbol"), Expected["main"].without_attr("global_symbol")
    )


def test_weights_are_kept_in_order_and_equal_ones_once():
    first, second = weights(module(W, W[0], W.copy()))
    np.testing.assert_array_equal(first, W)
    np.testing.assert_array_equal(second, W[0])


@pytest.mark.parametrize(
    ("a", "b", "count"),
    [
        (np.full((4, 4), np.nan, "float32"), np.full((4, 4), np.nan, "float32"), 1),
        (np.zeros((4, 4), "float32"), -np.zeros((4, 4), "float32"), 2),
        (np.zeros(4, "float32"), np.zeros((4, 4), "float32"), 2),
        (W, W * np.float32(1 + 1e-7), 2),
    ],
)
def test_equal_means_the_same_bytes_shape_and_dtype(a, b, count):
    assert len(weights(module(a, b))) == count


def test_constants_in_tuples_and_as_results():
    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 4), "float32"))
    with bb.function("main", [x]):
        bb.emit_func_output(relax.Tuple([x, relax.const(W), relax.const(np.int64(3))]))
    after = PlanWeights()(bb.get())
    constants = []
    relax.analysis.post_order_visit(
        after["main"], lambda e: constants.append(e) if isinstance(e, tvm.ir.GenericConst) else None
    )
    assert len(after.attrs[WEIGHTS_ATTR]) == 1
    assert [tuple(c.value.shape) for c in constants] == [()]


def test_on_a_device_weights_are_copied_there_scalars_too():
    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")) -> R.Tensor((4, 4), "float32"):
            with R.dataflow():
                w0: R.Tensor((), "float32") = R.call_pure_packed(
                    "fastconv_weight", R.prim_value(0), ty_args=R.Tensor((), "float32")
                )
                there: R.Tensor((), "float32") = R.call_pure_packed(
                    "vm.builtin.to_device",
                    w0,
                    R.prim_value(2),
                    R.prim_value(0),
                    ty_args=R.Tensor((), "float32"),
                )
                gv: R.Tensor((4, 4), "float32") = R.add(x, there)
                R.output(gv)
            return gv

    made = PlanWeights(device_type=2)(module(np.float32(2)))
    tvm.ir.assert_structural_equal(made["main"], Expected["main"])
    assert [tensor.numpy().item() for tensor in made.attrs[WEIGHTS_ATTR]] == [2]
