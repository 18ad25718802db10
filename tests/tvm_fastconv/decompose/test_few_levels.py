import numpy as np
import pytest

from tvm_fastconv.decompose.few_levels import few_levels

from ...close import assert_close


def test_one_bit_is_the_mean_magnitude_times_the_sign() -> None:
    weight = np.random.default_rng(0).standard_normal((8, 5, 3, 3)).astype(np.float32)
    found = few_levels(weight)
    scale = np.abs(weight).mean((1, 2, 3), keepdims=True)
    assert_close(found.weight, scale * np.sign(weight), 1e-6)  # float32 rounding of the scale
    assert found.error == pytest.approx(
        np.linalg.norm(weight - found.weight) / np.linalg.norm(weight), rel=1e-5
    )


def test_the_closed_form_is_the_best_scale() -> None:
    weight = np.random.default_rng(0).standard_normal((1, 40))
    found = few_levels(weight)
    errors = [np.linalg.norm(weight - found.scale * factor * found.levels) for factor in (0.99, 1, 1.01)]
    assert errors[1] == min(errors)


def test_more_bits_come_nearer() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 30, 3, 3)).astype(np.float32)
    errors = [few_levels(weight, bits).error for bits in range(1, 6)]
    assert errors == sorted(errors, reverse=True)
    # A uniform quantizer of a Gaussian: Max, "Quantizing for minimum distortion" (1960), table II, has 0.119 in power.
    assert errors[1] ** 2 == pytest.approx(0.119, rel=0.1)


def test_levels_that_are_there_already_are_found_exactly() -> None:
    rng = np.random.default_rng(0)
    levels = 2 * rng.integers(0, 4, (3, 50)) - 3
    levels[:, :2] = [-3, 3]
    weight = levels * np.array([[0.5], [2.0], [0.01]])
    assert few_levels(weight, 2).error < 1e-12


@pytest.mark.parametrize("bits", [0, 9])
def test_wrong_bits(bits: int) -> None:
    with pytest.raises(ValueError, match="allowed: 1 to 8"):
        few_levels(np.ones((1, 1)), bits)
