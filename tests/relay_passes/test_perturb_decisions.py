import numpy as np
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_fastconv.relay_passes.perturb_decisions import PerturbDecisions

from .evaluate import evaluate


@I.ir_module
class Before:
    @R.function
    def main(x: R.Tensor(("n", 4), "float32"), w: R.Tensor((4, 3), "float32")):
        with R.dataflow():
            sums = R.matmul(x, w)
            positive = R.nn.relu(sums)
            bits = R.greater(positive, R.const(0.0, "float32"))
            levels = R.astype(bits, "float32")
            y = R.matmul(levels, R.permute_dims(w))
            R.output(y)
        return y


@I.ir_module
class After:
    @R.function
    def main(
        x: R.Tensor(("n", 4), "float32"),
        w: R.Tensor((4, 3), "float32"),
        noise_0: R.Tensor((1, 3), "float32"),
        noise_1: R.Tensor((1, 3), "float32"),
    ):
        with R.dataflow():
            sums = R.matmul(x, w)
            largest = R.max(R.abs(sums))
            off = R.add(sums, R.multiply(largest, noise_0))
            positive = R.nn.relu(off)
            near = R.add(positive, R.multiply(positive, noise_1))
            bits = R.greater(near, R.const(0.0, "float32"))
            levels = R.astype(bits, "float32")
            y = R.matmul(levels, R.permute_dims(w))
            R.output(y)
        return y


def test_sums_and_what_is_decided_from_get_noise() -> None:
    canonical = tvm.transform.Sequential(
        [relax.transform.Normalize(), relax.transform.CanonicalizeBindings()]
    )
    tvm.ir.assert_structural_equal(canonical(PerturbDecisions()(Before)), canonical(After))


def test_a_sum_of_zero_may_turn_and_a_zero_of_relu_may_not() -> None:
    perturbed, none = PerturbDecisions()(Before), np.zeros((1, 3), np.float32)
    x = np.array([[1, 1, 1, 1], [2, 1, -1, -1]], np.float32)
    w = np.array([[1, 1, -1], [-1, 1, -1], [1, 1, -1], [-1, 1, -1]], np.float32)
    upwards = np.full((1, 3), 1e-6, np.float32)

    def answers(*noise: np.ndarray) -> np.ndarray:
        return evaluate(perturbed, x, w, *noise)

    np.testing.assert_array_equal(answers(none, none), evaluate(Before, x, w))
    np.testing.assert_array_equal(answers(none, upwards), evaluate(Before, x, w))
    assert (answers(upwards, none) != evaluate(Before, x, w)).any(1).tolist() == [True, False]
