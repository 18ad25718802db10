import numpy as np
import pytest

from tvm_fastconv.relay_passes.bitserial.weight_levels import WeightLevels, weight_levels
from tvm_fastconv.relay_passes.graph.near_miss import NearMiss

from ...close import assert_close

SHAPE = (6, 5, 3, 3)


def _scaled(integers: np.ndarray) -> np.ndarray:
    """One scale per filter, folded in float32 as batch norm is."""
    scale = np.random.default_rng(1).uniform(0.01, 3, (len(integers), 1, 1, 1)).astype(np.float32)
    return integers.astype(np.float32) * scale * np.float32(1 / 3)


def _values(levels: WeightLevels) -> np.ndarray:
    integers = np.tensordot(np.array(levels.bit_planes), np.where(levels.signs, 1, -1), axes=1)
    return integers * levels.scale[:, None, None, None]


@pytest.mark.parametrize(
    ("low", "high", "step", "planes"),
    [
        (-1, 1, 2, (1,)),
        (-1, 1, 1, (1, 1)),
        (-3, 3, 2, (1, 2)),
        (-2, 1, 1, (1, 2, 1)),
        (-2, 2, 1, (1, 2, 1)),
        (-8, 7, 1, (1, 2, 4, 8, 1)),
    ],
)
def test_grids_are_sums_of_signs(low: int, high: int, step: int, planes: tuple[int, ...]) -> None:
    integers = np.random.default_rng(0).choice(np.arange(low, high + 1, step), SHAPE)
    integers.reshape(6, -1)[:, :2] = [low, high]
    weight = _scaled(integers)
    found = weight_levels(weight)
    assert isinstance(found, WeightLevels)
    assert found.bit_planes == planes
    # 1e-6: the scale is fitted in float64 to weights rounded to float32
    assert_close(_values(found), weight, 1e-6)


def test_a_filter_of_zeros_has_scale_zero() -> None:
    weight = np.ones(SHAPE, np.float32)
    weight[2] = 0
    found = weight_levels(weight)
    assert isinstance(found, WeightLevels)
    np.testing.assert_array_equal(_values(found), weight)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda w: w.__setitem__((3, 0, 0, 0), np.pi / 8), "filter 3 has 2 magnitudes on no uniform grid"),
        (lambda w: w.__setitem__((1, 2), [[1, 2, 3], [4, 5, 6], [7, 8, np.nan]]), "filter 1 is not finite"),
        (lambda w: w.__setitem__(4, np.random.default_rng(0).standard_normal((5, 3, 3))), "filter 4 has 45"),
    ],
)
def test_near_misses_are_named(spoil, reason: str) -> None:
    weight = np.ones(SHAPE, np.float32)
    spoil(weight)
    found = weight_levels(weight)
    assert isinstance(found, NearMiss)
    assert reason in found.reason
