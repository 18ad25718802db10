import numpy as np
import pytest
import torch

from tvm_fastconv.topi.bit_max_pool2d import bit_max_pool2d, bit_max_pool2d_reference
from tvm_fastconv.topi.bits import pack_bits, unpack_bits
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.schedules.cpu.rows import RowKnobs

from .run_operator import each_isa, run_compute

PARAMS = [
    Conv2dParams(kernel=(2, 2), stride=(2, 2), out_channels=40),
    Conv2dParams(kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1), out_channels=40),
    Conv2dParams(kernel=(3, 2), stride=(1, 3), padding=(1, 0, 1, 1), dilation=(2, 1), out_channels=40),
]


@each_isa
@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("flipped", [False, True])
def test_equals_the_reference(params: Conv2dParams, flipped: bool, isa: str) -> None:
    rng = np.random.default_rng(0)
    words = pack_bits(rng.random((2, 9, 8, 40)) < 0.2)
    arrays = [words] + [pack_bits(rng.random(40) < 0.5)] * flipped
    got = run_compute(bit_max_pool2d, arrays, RowKnobs(rows=1), "bit_max_pool2d", isa, params=params)
    want = bit_max_pool2d_reference(words, params)
    np.testing.assert_array_equal(got, want ^ arrays[1] if flipped else want)


def test_the_reference_is_max_pooling_of_signs() -> None:
    bits = np.random.default_rng(0).random((2, 9, 8, 40)) < 0.2
    signs = torch.from_numpy(np.where(bits, 1.0, -1.0)).permute(0, 3, 1, 2)
    pooled = torch.nn.functional.max_pool2d(signs, 3, 2, 1).permute(0, 2, 3, 1).numpy() > 0
    got = unpack_bits(bit_max_pool2d_reference(pack_bits(bits), PARAMS[1]), 40)
    np.testing.assert_array_equal(got, pooled)
