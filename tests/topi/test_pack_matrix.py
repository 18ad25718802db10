import numpy as np
import pytest

from tvm_fastconv.topi.bits import unpack_bits, word_count
from tvm_fastconv.topi.pack_matrix import (
    pack_columns,
    pack_columns_reference,
    pack_rows,
    pack_rows_reference,
    vector_start,
)
from tvm_fastconv.topi.schedules.cpu.pack_matrix import PackKnobs

from .run_operator import each_isa, run_compute

SHAPES = [(64, 64), (5, 33), (33, 17), (1, 1), (32, 100), (31, 16), (63, 65), (129, 40), (200, 3)]


def _data(shape: tuple[int, int]) -> np.ndarray:
    """Random values, with those among them whose sign is not what it seems."""
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    odd = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-40, -1e-40][: data.size]
    data.reshape(-1)[-len(odd) :] = odd
    return data


@each_isa
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tile", "more_words"), [(1, 0), (4, 2)])
def test_rows(shape: tuple[int, int], tile: int, more_words: int, isa: str) -> None:
    data = _data(shape)
    rows, words = shape[0], word_count(shape[1]) + more_words
    tiles = -(-rows // tile)
    got = run_compute(pack_rows, [data], PackKnobs(), "pack_rows", isa, shape=(tiles, tile), words=words)
    packed = got.reshape(-1, words)
    np.testing.assert_array_equal(packed[:rows], pack_rows_reference(data, words))
    np.testing.assert_array_equal(packed[rows:], np.broadcast_to(packed[rows - 1], packed[rows:].shape))


@pytest.mark.parametrize(("isa", "lanes"), [("avx512", 16), ("avx2", 8), ("sse4", 4), ("avx512", 1)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("vectors", "more_words"), [(1, 0), (3, 2)])
def test_columns(shape: tuple[int, int], vectors: int, more_words: int, isa: str, lanes: int) -> None:
    data, words = _data(shape), word_count(shape[0]) + more_words
    lanes = min(lanes, 1 << (shape[1].bit_length() - 1))
    sizes = {"panel": vectors * lanes, "lanes": lanes, "words": words}
    got = run_compute(pack_columns, [data], PackKnobs(), "pack_columns", isa, **sizes)
    np.testing.assert_array_equal(got, pack_columns_reference(data, **sizes))


def test_many_panels() -> None:
    data = _data((40, 1025))
    sizes = {"panel": 16, "lanes": 8, "words": 2}
    got = run_compute(pack_columns, [data], PackKnobs(), "pack_columns", "avx2", **sizes)
    np.testing.assert_array_equal(got, pack_columns_reference(data, **sizes))


def test_the_references_agree_with_the_signs() -> None:
    data = _data((70, 21))
    np.testing.assert_array_equal(unpack_bits(pack_rows_reference(data, 1), 21), data >= 0)
    panels = pack_columns_reference(data, 16, 8, 3)
    columns = panels.transpose(0, 2, 1).reshape(-1, 3)
    starts = [vector_start(v, 8, 21) for v in range(4)]
    assert starts == [0, 8, 13, 13]
    for vector, start in enumerate(starts):
        bits = unpack_bits(columns[8 * vector : 8 * vector + 8], 70)
        np.testing.assert_array_equal(bits.T, data[:, start : start + 8] >= 0)
