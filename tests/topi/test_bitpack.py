import numpy as np
import pytest

from tvm_fastconv.topi.bitpack import (
    Grid,
    Thresholds,
    bitpack,
    bitpack_reference,
    flip_words,
    threshold_rows,
)
from tvm_fastconv.topi.schedules.cpu.rows import RowKnobs

from .run_operator import each_isa, run_compute

ROW = RowKnobs(rows=1)
SHAPES = [(1, 4, 5, 64), (2, 3, 7, 32), (1, 2, 3, 40), (3, 5, 1, 17), (1, 1, 9, 100)]


def _data(shape: tuple[int, ...]) -> np.ndarray:
    """Random values, with those among them that comparisons trip over."""
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    odd = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40]
    data.reshape(-1)[: len(odd)] = odd
    return data


@each_isa
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("flipped", [False, True])
def test_thresholds(shape: tuple[int, ...], flipped: bool, isa: str) -> None:
    rng, channels = np.random.default_rng(1), shape[-1]
    at = rng.standard_normal(channels).astype(np.float32) * rng.integers(0, 2, channels).astype(np.float32)
    how = Thresholds(at=at, flip=rng.integers(0, 2, channels) == 1 if flipped else np.zeros(channels, bool))
    arrays = [_data(shape), threshold_rows(how.at, 1)]
    if flipped:
        arrays.append(flip_words(how.flip, 1))
    got = run_compute(bitpack, arrays, ROW, "bitpack", isa)
    np.testing.assert_array_equal(got, bitpack_reference(arrays[0], how))


@each_isa
@pytest.mark.parametrize(("shape", "groups"), [((1, 3, 4, 128), 2), ((2, 3, 4, 60), 3)])
def test_groups_fill_their_own_words(shape: tuple[int, ...], groups: int, isa: str) -> None:
    how = Thresholds(at=np.zeros(shape[-1], np.float32), flip=np.zeros(shape[-1], bool))
    arrays = [_data(shape), threshold_rows(how.at, groups)]
    got = run_compute(bitpack, arrays, ROW, "bitpack", isa, groups=groups)
    np.testing.assert_array_equal(got, bitpack_reference(arrays[0], how, groups))


@each_isa
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "grid",
    [
        Grid(scale=3.0, low=0, high=3),
        Grid(scale=2.0, shift=0.5, low=-4, high=3),
        Grid(scale=10.0, low=0, high=200),
        Grid(scale=1.0, low=-1, high=1),
        Grid(divisor=0.001, low=0, high=3),
    ],
)
def test_grids(shape: tuple[int, ...], grid: Grid, isa: str) -> None:
    data = np.nan_to_num(_data(shape), nan=0.0)
    data.reshape(-1)[7:11] = [0.25, 0.75, -0.25, 1.25]  # exact halves of scale 2
    limit = np.zeros(32, np.int32)
    got = run_compute(bitpack, [data, limit], ROW, "bitpack", isa, grid=grid)
    np.testing.assert_array_equal(got, bitpack_reference(data, grid))


def test_nan_counts_as_below_every_threshold() -> None:
    how = Thresholds(at=np.full(2, -np.inf, np.float32), flip=np.array([False, True]))
    data = np.full((1, 1, 1, 2), np.nan, np.float32)
    assert bitpack_reference(data, how)[0, 0, 0, 0] == 0b10
