import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tvm_fastconv.topi.bits import pack_bits, pack_digits, unpack_bits, unpack_digits, word_count


def test_channel_c_is_bit_c_of_its_word() -> None:
    bits = np.zeros((1, 40), bool)
    bits[0, [0, 5, 31, 33]] = True
    np.testing.assert_array_equal(pack_bits(bits), [[1 | 1 << 5 | 1 << 31, 1 << 1]])


@given(st.integers(1, 100), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_packing_loses_nothing_and_leaves_no_bit_behind_the_last_channel(
    channels: int, planes: int, seed: int
) -> None:
    levels = np.random.default_rng(seed).integers(0, 2**planes, (3, channels))
    words = pack_digits(levels, planes)
    assert words.shape == (3, planes * word_count(channels))
    np.testing.assert_array_equal(unpack_digits(words, channels, planes), levels)
    lowest = words[:, : word_count(channels)]
    assert not unpack_bits(lowest, word_count(channels) * 32)[:, channels:].any()
