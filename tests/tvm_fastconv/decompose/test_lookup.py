import itertools

import numpy as np
import pytest

from tvm_fastconv.decompose.lookup import LookupFactors, lookup


def _weight(*shape: int, seed: int = 0) -> np.ndarray:
    """Filters whose channels are correlated, as trained ones are."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((shape[1], shape[1])) * (1 + np.arange(shape[1]))[:, None] ** -0.7
    weight = np.einsum("oirs,ic->ocrs", rng.standard_normal(shape), mix)
    return (weight * np.exp(rng.standard_normal((shape[0], 1, 1, 1)))).astype(np.float32)


def _planted(o: int, c: int, k: int, each: int, seed: int) -> np.ndarray:
    """A weight of shape (o, c, 3, 3) whose taps are sums of ``each`` of ``k`` atoms."""
    rng = np.random.default_rng(seed)
    dictionary = rng.standard_normal((k, c))
    codes = np.zeros((o, 3, 3, k))
    for tap in codes.reshape(-1, k):
        tap[rng.choice(k, each, replace=False)] = rng.standard_normal(each)
    return np.einsum("orsk,kc->ocrs", codes, dictionary).astype(np.float32)


def _check(found: LookupFactors, weight: np.ndarray, dictionary_size: int) -> None:
    o, c, kh, kw = weight.shape
    assert found.dictionary.shape == (dictionary_size, c)
    assert found.coefficients.shape == (o, dictionary_size, kh, kw)
    assert found.dictionary.dtype == found.coefficients.dtype == np.float32
    rebuilt = np.zeros(weight.shape)
    for t, atom in enumerate(found.dictionary.astype(np.float64)):
        rebuilt += found.coefficients[:, t, None] * atom[:, None, None]
    size = np.linalg.norm(weight.astype(np.float64))
    # 1e-9: the same sums in float64, in another order
    assert found.error == pytest.approx(np.linalg.norm(weight - rebuilt) / size, abs=1e-9)


@pytest.mark.parametrize("shape", [(40, 24, 3, 3), (50, 30, 1, 1), (7, 5, 5, 3), (30, 1, 3, 3)])
@pytest.mark.parametrize("density", [0.01, 0.13, 0.6])
def test_the_budget_holds_and_the_error_is_the_reported_one(shape: tuple[int, ...], density: float) -> None:
    weight = _weight(*shape)
    found = lookup(weight, dictionary_size=20, density=density)
    _check(found, weight, 20)
    assert np.count_nonzero(found.coefficients) <= density * found.coefficients.size
    assert 0 <= found.error <= 1


def test_more_nonzeros_and_more_atoms_come_nearer() -> None:
    weight = _weight(40, 32, 3, 3)
    by_density = [lookup(weight, dictionary_size=32, density=d).error for d in (0.02, 0.05, 0.1, 0.3, 0.6, 1)]
    assert by_density == sorted(by_density, reverse=True)
    nonzeros = 3 * 360
    by_size = [
        lookup(weight, dictionary_size=k, density=nonzeros / (k * 360)).error for k in (4, 8, 16, 32, 64)
    ]
    assert by_size == sorted(by_size, reverse=True)


@pytest.mark.parametrize("dictionary_size", [12, 20, 360])
def test_enough_atoms_and_nonzeros_are_exact(dictionary_size: int) -> None:
    found = lookup(_weight(40, 12, 3, 3), dictionary_size=dictionary_size, density=1.0)
    assert found.error < 1e-6  # float32 rounding of the factors


def test_it_beats_pruning_and_the_truncated_singular_vectors() -> None:
    weight = _weight(64, 48, 3, 3)
    found = lookup(weight, dictionary_size=48, density=0.1)
    columns = weight.transpose(0, 2, 3, 1).reshape(-1, 48).astype(np.float64)
    rotated = columns @ np.linalg.svd(columns, full_matrices=False)[2].T
    for dense in (columns, rotated):
        kept = np.sort(np.square(dense).reshape(-1))[::-1][: np.count_nonzero(found.coefficients)].sum()
        assert found.error < 0.9 * np.sqrt(1 - kept / np.square(columns).sum())


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_dictionary_is_found(seed: int) -> None:
    one = lookup(_planted(64, 32, 16, 1, seed), dictionary_size=16, density=1 / 16, seed=seed)
    assert one.error < 1e-5  # every tap is one atom, so the dictionary is found but for float32 rounding
    # Three atoms per tap: the best of them are no local minimum only up to a few small coefficients.
    weight = _planted(128, 64, 32, 3, seed)
    assert lookup(weight, dictionary_size=32, density=3 / 32, seed=seed).error < 0.3
    assert lookup(weight, dictionary_size=32, density=3 / 32, seed=seed, iterations=60).error < 0.15


def test_more_iterations_are_never_worse() -> None:
    weight = _weight(40, 32, 3, 3)
    errors = [lookup(weight, dictionary_size=32, density=0.1, iterations=n).error for n in (0, 1, 2, 4, 8)]
    # 1e-6: the last refit of the codes starts from other values
    assert all(after <= before + 1e-6 for before, after in itertools.pairwise(errors))


def test_the_fewest_nonzeros_for_an_error() -> None:
    weight = _weight(40, 32, 3, 3)
    densities = []
    for error in (0.5, 0.2, 0.05):
        found = lookup(weight, dictionary_size=32, error=error)
        _check(found, weight, 32)
        assert 0.95 * error < found.error <= error
        same = lookup(weight, dictionary_size=32, density=found.density)
        # The other question has the same answer, but for a few per cent of luck.
        assert same.error == pytest.approx(error, rel=0.1)
        densities.append(found.density)
    assert densities == sorted(densities)


def test_what_the_dictionary_cannot_reach_is_said() -> None:
    weight = _weight(40, 32, 3, 3)
    reach = lookup(weight, dictionary_size=4, density=1.0).error
    with pytest.raises(ValueError, match=f"a dictionary of 4 reaches {reach:.2g} at best"):
        lookup(weight, dictionary_size=4, error=reach / 2)
    assert lookup(weight, dictionary_size=4, error=reach * 1.001).error <= reach * 1.001


def test_nonzeros_go_where_they_matter() -> None:
    weight = _weight(20, 16, 3, 3)
    weight[10:] *= 1e-3
    found = lookup(weight, dictionary_size=16, density=0.05)
    assert np.count_nonzero(found.coefficients[:10]) > 0
    assert np.count_nonzero(found.coefficients[10:]) == 0


def test_the_seed_decides() -> None:
    weight = _weight(30, 20, 3, 3)
    first, again = (lookup(weight, dictionary_size=40, density=0.05, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.dictionary, again.dictionary)
    np.testing.assert_array_equal(first.coefficients, again.coefficients)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_size_of_weights(scale: float) -> None:
    weight = _weight(20, 16, 3, 3)
    plain = lookup(weight, dictionary_size=16, density=0.1)
    scaled = lookup((weight * scale).astype(np.float32), dictionary_size=16, density=0.1)
    assert scaled.error == pytest.approx(plain.error, rel=0.05)  # rounding may change a choice
    _check(scaled, (weight * scale).astype(np.float32), 16)


def test_zero_and_repeated_weights() -> None:
    zero = lookup(np.zeros((4, 3, 2, 2), np.float32), dictionary_size=5, density=0.5)
    assert zero.error == 0
    assert not zero.coefficients.any()
    assert lookup(np.zeros((4, 3, 2, 2), np.float32), dictionary_size=5, error=0.1).density == 0
    repeated = lookup(np.ones((8, 6, 3, 3), np.float32), dictionary_size=6, density=1 / 6)
    assert repeated.error < 1e-6  # float32 rounding
    assert repeated.density <= 1 / 6


def test_so_few_nonzeros_that_none_is_left() -> None:
    found = lookup(_weight(4, 8, 3, 3), dictionary_size=2, density=0.01)
    assert found.error == 1
    assert not found.coefficients.any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dictionary_size": 0, "density": 0.5}, "dictionary_size is 0; allowed: 1 to 36"),
        ({"dictionary_size": 37, "density": 0.5}, "dictionary_size is 37; allowed: 1 to 36"),
        ({"dictionary_size": True, "density": 0.5}, "dictionary_size is True"),
        ({"dictionary_size": 4}, "density is None and error is None; allowed: one of them"),
        ({"dictionary_size": 4, "density": 0.5, "error": 0.5}, "allowed: one of them"),
        ({"dictionary_size": 4, "density": 0.0}, "density is 0.0; allowed: above 0, at most 1"),
        ({"dictionary_size": 4, "density": float("nan")}, "density is nan"),
        ({"dictionary_size": 4, "error": 1.0}, "error is 1.0; allowed: above 0, below 1"),
        ({"dictionary_size": 4, "density": 0.5, "iterations": -1}, "iterations is -1; allowed: 0 or more"),
    ],
)
def test_wrong_parameters(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lookup(_weight(4, 3, 3, 3), **wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(value: float) -> None:
    weight = _weight(4, 3, 3, 3)
    weight[1, 2, 0, 0] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        lookup(weight, dictionary_size=4, density=0.5)


def test_weights_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 3\); allowed: \(o, c, kh, kw\)"):
        lookup(np.ones((4, 3), np.float32), dictionary_size=2, density=0.5)
