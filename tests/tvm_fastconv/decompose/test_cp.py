import numpy as np
import pytest
import tensorly
from tensorly.decomposition import parafac

from tvm_fastconv.decompose.cp import ALLOWANCE, cp
from tvm_fastconv.decompose.cp_terms import component_norms, sensitivity

from ...close import assert_close


def _weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize("shape", [(10, 8, 3, 5), (7, 1, 3, 3), (12, 9, 1, 3), (12, 9, 3, 1), (6, 9, 1, 1)])
def test_factors_and_error(shape: tuple[int, ...]) -> None:
    weight = _weight(*shape)
    o, c, kh, kw = shape
    found = cp(weight, rank=4)
    factors = (found.input, found.column, found.row, found.output)
    assert [factor.shape for factor in factors] == [(4, c), (4, kh), (4, kw), (o, 4)]
    assert {factor.dtype for factor in factors} == {np.dtype(np.float32)}
    rebuilt = np.zeros(shape)
    for t in range(4):
        plane = np.outer(found.column[t], found.row[t])
        rebuilt += np.outer(found.output[:, t], found.input[t])[:, :, None, None] * plane
    assert_close(found.weight, rebuilt, 1e-6)  # float32 products
    assert found.error == pytest.approx(np.linalg.norm(weight - rebuilt) / np.linalg.norm(weight), abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "full"), [((10, 8, 3, 3), 72), ((20, 1, 3, 3), 9), ((8, 9, 1, 3), 24), ((5, 6, 1, 1), 5)]
)
def test_full_rank_is_exact(shape: tuple[int, ...], full: int) -> None:
    found = cp(_weight(*shape), rank=1000)
    assert len(found.input) == full
    assert found.error < 1e-6  # float32 rounding of the factors


def test_planted_terms_are_found() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((n, 6)) for n in (20, 16, 3, 3)]
    weight = np.einsum("or,cr,yr,xr->ocyx", *parts).astype(np.float32)
    assert cp(weight, rank=6).error < 1e-6  # float32 rounding
    assert cp(weight, rank=8).error < 1e-4  # terms too many are least squares without one solution, and slow


@pytest.mark.parametrize("rank", [6, 20])
def test_it_is_as_near_as_tensorly(rank: int) -> None:
    weight = _weight(24, 20, 3, 3)
    peer = parafac(
        tensorly.tensor(weight.astype(np.float64)), rank, n_iter_max=60, init="random", tol=0, random_state=0
    )
    want = np.linalg.norm(weight - tensorly.cp_to_tensor(peer)) / np.linalg.norm(weight)
    # 1 %: both end in local minima
    assert cp(weight, rank=rank, correction=False).error <= 1.01 * want


def test_more_terms_come_nearer(layer: np.ndarray) -> None:
    errors = [cp(layer, rank=n).error for n in (2, 8, 24, 64, 128)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.7 * errors[0]


@pytest.mark.parametrize("rank", [8, 48])
def test_the_correction_keeps_the_error_and_shrinks_the_terms(layer: np.ndarray, rank: int) -> None:
    plain, corrected = cp(layer, rank=rank, correction=False), cp(layer, rank=rank)
    # 1e-6: float32 factors
    assert corrected.error <= (1 + ALLOWANCE) * plain.error + 1e-6
    norms = [np.linalg.norm(component_norms(found.terms)) for found in (plain, corrected)]
    assert norms[1] < 0.9 * norms[0]
    assert sensitivity(corrected.terms) < 0.8 * sensitivity(plain.terms)


def test_degenerate_terms_become_small() -> None:
    # The classic tensor of rank 3 that terms of rank 2 approach without end, larger and larger (border rank 2).
    x, y = np.eye(2)
    weight = sum(np.einsum("o,c,y->ocy", *part) for part in ((x, x, y), (x, y, x), (y, x, x)))
    weight = (weight[..., None] + 0.01 * _weight(2, 2, 2, 1)).astype(np.float32)
    plain, corrected = cp(weight, rank=2, correction=False), cp(weight, rank=2)
    assert component_norms(plain.terms).max() > 1.4 * np.linalg.norm(weight)
    assert component_norms(corrected.terms).max() < component_norms(plain.terms).max()
    assert corrected.error <= (1 + ALLOWANCE) * plain.error + 1e-6  # float32 factors


def test_rank_by_ratio(layer: np.ndarray) -> None:
    found = cp(layer, ratio=0.1)
    one = sum(layer.shape)
    assert len(found.input) == int(0.1 * layer.size / one)
    sizes = [part.size for part in (found.input, found.column, found.row, found.output)]
    assert 0.1 * layer.size - one < sum(sizes) <= 0.1 * layer.size


@pytest.mark.parametrize("error", [0.6, 0.45])
def test_rank_by_error(trained: np.ndarray, error: float) -> None:
    found = cp(trained, error=error)
    assert found.error <= error
    rank = len(found.input)
    assert cp(trained, rank=int(0.9 * rank), correction=False).error > error


def test_an_error_that_a_matrix_or_few_channels_take() -> None:
    assert cp(_weight(6, 9, 1, 1), error=0.3).error <= 0.3
    assert cp(_weight(20, 1, 3, 3), error=0.3).error <= 0.3


def test_the_seed_decides(trained: np.ndarray) -> None:
    first, again = (cp(trained, rank=16, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.input, again.input)
    np.testing.assert_array_equal(first.output, again.output)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_size_of_weights(scale: float) -> None:
    weight = _weight(12, 10, 3, 3)
    # 1e-3: rounding in another place
    want = pytest.approx(cp(weight, rank=5).error, rel=1e-3)
    assert cp((weight * scale).astype(np.float32), rank=5).error == want


@pytest.mark.parametrize("asked", [{"rank": 2}, {"error": 0.1}, {"ratio": 0.5}])
def test_zeros(asked: dict) -> None:
    found = cp(np.zeros((4, 3, 3, 3), np.float32), **asked)
    assert found.error == 0
    assert not found.weight.any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "rank is None, ratio is None and error is None; allowed: one of them"),
        ({"rank": 2, "ratio": 0.1}, "allowed: one of them"),
        ({"rank": 0}, "rank is 0; allowed: 1 or more"),
        ({"ratio": 0.0}, "ratio is 0.0; allowed: above 0, at most 1"),
        ({"ratio": 0.01}, "ratio is 0.01; one term has 0.097 of the parameters already"),
        ({"error": 1.0}, "error is 1.0; allowed: above 0, below 1"),
    ],
)
def test_wrong_parameters(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cp(_weight(4, 4, 3, 3), **wrong)
