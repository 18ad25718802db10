"""Rounding to TF32, and what it does to a convolution."""

import numpy as np
import pytest
import torch

from tvm_fastconv.topi.conv2d import Conv2dParams, conv2d_reference
from tvm_fastconv.topi.schedules.cuda.tf32_knobs import Tf32Knobs
from tvm_fastconv.topi.tf32_conv2d import pack_tf32_weight, round_to_tf32, tf32_conv2d_reference

from ..close import assert_close

KNOBS = Tf32Knobs(tile_m=32, tile_o=32, tile_k=32, part_m=16, part_o=16, stages=2, slices=1)


def test_a_rounded_number_is_off_by_half_of_its_last_bit_at_most() -> None:
    x = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    rounded = round_to_tf32(x)
    assert 0.9 * 2**-11 < (np.abs(rounded - x) / np.abs(x)).max() <= 2**-11
    np.testing.assert_array_equal(round_to_tf32(rounded), rounded)
    bfloat = torch.from_numpy(x).bfloat16().float().numpy()
    np.testing.assert_array_equal(round_to_tf32(bfloat), bfloat)


def test_numbers_without_a_neighbour_stay_what_they_are() -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 2048.0, -1025.0], np.float32)
    rounded = round_to_tf32(x)
    np.testing.assert_array_equal(rounded, x)
    np.testing.assert_array_equal(np.signbit(rounded[:4]), np.signbit(x[:4]))


@pytest.mark.parametrize("channels", [8, 64, 512])
def test_the_error_of_a_sum_does_not_grow_with_its_terms(channels: int) -> None:
    """Both grow like the root of their number; what FP32 computes is no more than 1e-6 off."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((1, 12, 12, channels), np.float32)
    weight = rng.standard_normal((16, channels, 3, 3), np.float32)
    params = Conv2dParams(kernel=(3, 3), out_channels=16, padding=(1, 1, 1, 1))
    got, want = tf32_conv2d_reference(data, weight, params), conv2d_reference(data, weight, params)
    # Six deviations of a sum of products off by 2^-11 · sqrt(2 / 3), beside an output of three of its own.
    assert_close(got, want, 2**-11 * 5 / 3)
    assert np.abs(got - want).max() > 1e-4 * np.abs(want).max()


def test_weights_lie_in_the_order_of_the_lanes() -> None:
    weight = np.arange(40 * 6 * 3 * 2, dtype=np.float32).reshape(40, 6, 3, 2)
    packed = pack_tf32_weight(weight, KNOBS)
    assert packed.shape == (2, 2, 2, 4, 32, 4)
    terms = round_to_tf32(weight).transpose(0, 2, 3, 1).reshape(40, 36)
    # Panel 1, step 0, second sixteen, first eight channels; lane 14 has channel 3, and terms 8 to 11 of its sixteen.
    np.testing.assert_array_equal(packed[1, 0, 1, 0, 14], terms[35, 24:28])
    np.testing.assert_array_equal(packed[0, 1, 0, 0, 0], terms[0, 32:36])
    assert not packed[0, 1, 0, :, 1::4].any()
    assert not packed[1, :, :, 1:].any()
