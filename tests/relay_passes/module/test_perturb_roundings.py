import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_fastconv.relay_passes.module.perturb_roundings import PerturbRoundings

from ..evaluate import evaluate


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


UNIT, SPREAD = 2.0**-24, 2.0
PERTURB = PerturbRoundings(unit=UNIT, spread=SPREAD, layers=0.0)
X = np.array([[1, 1, 1, 1], [2, 1, -1, -1]], np.float32)
W = np.array([[1, 1, -1], [-1, 1, -1], [1, 1, -1], [-1, 1, -1]], np.float32)


def test_there_is_a_parameter_for_each_rounding_and_none_for_decisions_and_what_only_moves() -> None:
    main = PERTURB(Before)["main"]
    assert [[int(n) for n in param.ty.shape] for param in main.params[2:]] == [[1, 3], [1, 4]]


def test_a_sum_moves_as_far_as_its_terms_are_large() -> None:
    @I.ir_module
    class Sum:
        @R.function
        def main(x: R.Tensor((2, 4), "float32")):
            with R.dataflow():
                y = R.matmul(x, R.const(W, "float32"))
                R.output(y)
            return y

    still, moved = (evaluate(PERTURB(Sum), X, np.full((2, 3), off, np.float32)) for off in (0.0, 1000.0))
    bound = SPREAD * UNIT * 2 * (np.abs(X) @ np.abs(W))  # the square root of four terms
    np.testing.assert_array_equal(still, X @ W)
    np.testing.assert_allclose(moved - still, 1000 * bound, rtol=0, atol=1e-2 * 1000 * bound.max())  # float32


def test_a_layer_moves_by_its_tolerance_at_least() -> None:
    perturbed = PerturbRoundings(unit=UNIT, spread=SPREAD, layers=0.5)(Before)
    none, all_of_it = np.zeros((1, 4), np.float32), np.full((1, 3), -1, np.float32)
    still, moved = (evaluate(perturbed, X, W, off, none) for off in (0 * all_of_it, all_of_it))
    assert (still != moved).any()


def test_a_sum_of_zero_may_turn_and_a_zero_of_relu_may_not() -> None:
    perturbed = PERTURB(Before)
    still, moved = (
        evaluate(perturbed, X, W, np.full((1, 3), off, np.float32), np.zeros((1, 4), np.float32))
        for off in (0, 1)
    )
    np.testing.assert_array_equal(still, evaluate(Before, X, W))
    assert (moved != still).any(1).tolist() == [True, False]
