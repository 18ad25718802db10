"""The one place that says what a bit is: nobody else shifts bits.

Bit 1 stands for the larger of two levels (+1 of ±1), bit 0 for the smaller. Channel ``c`` is bit ``c % 32`` of word
``c // 32``. Bits behind the last channel are 0, in activations and in weights alike, so that they never differ.
"""

import numpy as np
import tvm
from tvm import tirx

WORD_BITS = 32
WORD = "uint32"


def word_count(channels: int) -> int:
    """Words that hold one bit of each of ``channels`` channels."""
    return -(-channels // WORD_BITS)


def bit_of(channel: int | tvm.ir.Expr) -> tvm.ir.Expr:
    """The word in which the bit of ``channel`` alone is set."""
    if isinstance(channel, int):
        return tirx.const(1 << channel % WORD_BITS, WORD)
    return tirx.const(1, WORD) << tirx.floormod(channel, WORD_BITS).astype(WORD)


def pack_bits(bits: np.ndarray) -> np.ndarray:
    """Pack bool (..., c) into uint32 (..., `word_count` (c))."""
    *lead, channels = bits.shape
    words = word_count(channels)
    padded = np.zeros((*lead, words * WORD_BITS), np.uint32)
    padded[..., :channels] = bits
    weights = np.uint32(1) << np.arange(WORD_BITS, dtype=np.uint32)
    return (padded.reshape(*lead, words, WORD_BITS) * weights).sum(-1, dtype=np.uint32)


def unpack_bits(words: np.ndarray, channels: int) -> np.ndarray:
    """Inverse of `pack_bits`: uint32 (..., words) to bool (..., c)."""
    bits = words[..., None] >> np.arange(WORD_BITS, dtype=np.uint32) & np.uint32(1)
    return bits.reshape(*words.shape[:-1], -1)[..., :channels].astype(bool)


def pack_digits(levels: np.ndarray, planes: int) -> np.ndarray:
    """Pack the binary digits of unsigned integers (..., c) into uint32 (..., planes · words), lowest digit first."""
    return np.concatenate([pack_bits(levels >> i & 1 == 1) for i in range(planes)], axis=-1)


def unpack_digits(words: np.ndarray, channels: int, planes: int) -> np.ndarray:
    """Inverse of `pack_digits`, int64 (..., c)."""
    parts = np.split(words, planes, axis=-1)
    digits = [unpack_bits(part, channels).astype(np.int64) << i for i, part in enumerate(parts)]
    return np.sum(digits, axis=0)
