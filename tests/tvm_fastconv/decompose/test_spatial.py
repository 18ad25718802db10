import numpy as np
import pytest

from tvm_fastconv.decompose.spatial import spatial

from ...close import assert_close


def _weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize("shape", [(10, 8, 3, 5), (4, 9, 5, 2), (7, 1, 3, 3), (5, 6, 1, 4)])
def test_factors_and_error(shape: tuple[int, ...]) -> None:
    weight = _weight(*shape)
    o, c, kh, kw = shape
    found = spatial(weight, channels=3)
    assert found.column.shape == (3, c, kh, 1)
    assert found.row.shape == (o, 3, 1, kw)
    assert found.column.dtype == found.row.dtype == np.float32
    rebuilt = np.zeros(shape)
    for r in range(3):
        for y in range(kh):
            for x in range(kw):
                rebuilt[:, :, y, x] += np.outer(found.row[:, r, 0, x], found.column[r, :, y, 0])
    assert_close(found.weight, rebuilt, 1e-6)  # float32 products
    assert found.error == pytest.approx(np.linalg.norm(weight - rebuilt) / np.linalg.norm(weight), abs=1e-6)


def test_the_error_is_that_of_the_singular_values_left_out() -> None:
    weight = _weight(10, 8, 3, 5)
    values = np.linalg.svd(weight.transpose(1, 2, 0, 3).reshape(24, 50), compute_uv=False)
    for channels in (1, 5, 20):
        want = np.linalg.norm(values[channels:]) / np.linalg.norm(values)
        # 1e-6: float32 factors
        assert spatial(weight, channels=channels).error == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("channels", [24, 1000])
def test_full_rank_is_exact(channels: int) -> None:
    found = spatial(_weight(10, 8, 3, 5), channels=channels)
    assert len(found.column) == 24
    assert found.error < 1e-6  # float32 rounding of the factors


def test_more_channels_come_nearer(layer: np.ndarray) -> None:
    errors = [spatial(layer, channels=n).error for n in (4, 16, 32, 64, 128, 192)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.7 * errors[0]


def test_the_fewest_channels_that_reach_an_error(layer: np.ndarray) -> None:
    found = spatial(layer, error=0.2)
    assert found.error <= 0.2 < spatial(layer, channels=len(found.column) - 1).error


def test_it_is_the_same_every_time(layer: np.ndarray) -> None:
    first, again = (spatial(layer, channels=20) for _ in range(2))
    np.testing.assert_array_equal(first.column, again.column)
    np.testing.assert_array_equal(first.row, again.row)


@pytest.mark.parametrize("scale", [0, 1e-30, 1e30])
def test_any_size_of_weights(scale: float) -> None:
    found = spatial((_weight(10, 8, 3, 3) * scale).astype(np.float32), channels=8)
    # 1e-3: the smallest factors are rounded coarsely
    assert found.error == pytest.approx(
        spatial(_weight(10, 8, 3, 3), channels=8).error if scale else 0, rel=1e-3
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "channels is None and error is None; allowed: one of them"),
        ({"channels": 2, "error": 0.1}, "channels is 2 and error is 0.1; allowed: one of them"),
        ({"channels": 0}, "channels is 0; allowed: 1 or more"),
        ({"channels": 1.5}, "channels is 1.5; allowed: 1 or more"),
        ({"error": 1.0}, "error is 1.0; allowed: above 0, below 1"),
    ],
)
def test_wrong_parameters(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spatial(_weight(4, 4, 3, 3), **wrong)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones((3, 3), np.float32), r"shape \(3, 3\); allowed: \(o, c, kh, kw\)"),
        (np.full((2, 2, 3, 3), np.nan, np.float32), "NaN or infinity"),
    ],
)
def test_wrong_weights(weight: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spatial(weight, channels=1)
