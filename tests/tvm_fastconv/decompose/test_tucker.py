import numpy as np
import pytest

from tvm_fastconv.decompose.tucker import tucker

from ...close import assert_close


def _weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def test_factors_and_error() -> None:
    weight = _weight(10, 8, 3, 5)
    found = tucker(weight, ranks=(4, 6))
    assert (found.input.shape, found.core.shape, found.output.shape) == ((4, 8), (6, 4, 3, 5), (10, 6))
    assert {part.dtype for part in (found.input, found.core, found.output)} == {np.dtype(np.float32)}
    rebuilt = np.zeros(weight.shape)
    for p in range(6):
        for q in range(4):
            rebuilt += found.output[:, p, None, None, None] * found.input[q, :, None, None] * found.core[p, q]
    assert_close(found.weight, rebuilt, 1e-6)  # float32 products
    assert found.error == pytest.approx(np.linalg.norm(weight - rebuilt) / np.linalg.norm(weight), abs=1e-6)


def test_both_factors_are_orthonormal(layer: np.ndarray) -> None:
    found = tucker(layer, ranks=(20, 30))
    # 1e-6: float32 rounding
    assert_close(found.input @ found.input.T, np.eye(20), 1e-6)
    assert_close(found.output.T @ found.output, np.eye(30), 1e-6)


def test_full_ranks_are_exact_and_change_nothing() -> None:
    weight = _weight(10, 8, 3, 3)
    found = tucker(weight, ranks=(8, 99))
    np.testing.assert_array_equal(found.core, weight)
    np.testing.assert_array_equal(found.input, np.eye(8))
    np.testing.assert_array_equal(found.output, np.eye(10))
    assert found.error == 0


def test_one_full_rank_leaves_the_singular_values_of_the_other() -> None:
    weight = _weight(10, 8, 3, 3)
    values = np.linalg.svd(weight.reshape(10, -1), compute_uv=False)
    want = np.linalg.norm(values[4:]) / np.linalg.norm(values)
    # 1e-6: float32 factors
    assert tucker(weight, ranks=(8, 4)).error == pytest.approx(want, abs=1e-6)


def test_few_inputs_bound_the_outputs() -> None:
    found = tucker(_weight(64, 1, 3, 3), ranks=(5, 64))
    assert found.core.shape == (9, 1, 3, 3)
    assert found.error < 1e-6  # float32 rounding of the factors


def test_it_is_nearer_than_the_truncated_singular_vectors(layer: np.ndarray) -> None:
    o, c = layer.shape[:2]
    tensor = layer.astype(np.float64)
    outputs = np.linalg.svd(tensor.reshape(o, -1))[0][:, :16]
    inputs = np.linalg.svd(tensor.swapaxes(0, 1).reshape(c, -1))[0][:, :16]
    kept = np.einsum("ocyx,op,cq->pqyx", tensor, outputs, inputs, optimize=True)
    truncated = np.sqrt(1 - np.square(kept).sum() / np.square(tensor).sum())
    assert tucker(layer, ranks=(16, 16)).error < truncated


def test_larger_ranks_come_nearer(layer: np.ndarray) -> None:
    errors = [tucker(layer, ranks=(n, n)).error for n in (4, 8, 16, 32, 48)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.7 * errors[0]


@pytest.mark.parametrize("error", [0.05, 0.3, 0.6])
def test_ranks_by_error(layer: np.ndarray, error: float) -> None:
    found = tucker(layer, error=error)
    assert found.error <= error
    q, p = len(found.input), len(found.core)
    smaller = tucker(layer, ranks=(max(1, int(0.9 * q)), max(1, int(0.9 * p))))
    assert smaller.error > error


def test_zeros() -> None:
    found = tucker(np.zeros((4, 3, 3, 3), np.float32), error=0.1)
    assert found.core.shape[:2] == (1, 1)
    assert found.error == 0


def test_it_is_the_same_every_time(layer: np.ndarray) -> None:
    first, again = (tucker(layer, ranks=(9, 12)) for _ in range(2))
    np.testing.assert_array_equal(first.core, again.core)
    np.testing.assert_array_equal(first.input, again.input)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "error is None and ranks is None; allowed: one of them"),
        ({"ranks": (2, 2), "error": 0.1}, "allowed: one of them"),
        ({"ranks": (0, 2)}, r"ranks\[0\] is 0; allowed: 1 or more"),
        ({"ranks": (2, 2.0)}, r"ranks\[1\] is 2.0; allowed: 1 or more"),
        ({"error": 0.0}, "error is 0.0; allowed: above 0, below 1"),
    ],
)
def test_wrong_parameters(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tucker(_weight(4, 4, 3, 3), **wrong)
