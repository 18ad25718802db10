import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_fastconv.topi.byte_counts import MAX_RUN
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cpu.xnor_gemm import XnorGemmKnobs
from tvm_fastconv.topi.xnor_gemm import XnorGemmProblem, stored_words, xnor_gemm, xnor_gemm_reference

from .run_operator import each_isa, machine, run_primfunc

SHAPES = [
    (64, 64, 64),
    (1, 1, 1),
    (5, 33, 17),
    (63, 1000, 130),
    (7, 31, 15),
    (70, 1056, 64),
    (3, 95, 250),
    (7, 70, 1),
    (4, 70, 2),
]


def _run(
    m: int, k: int, n: int, isa: str, bytewise: bool, seed: int = 0, knobs: XnorGemmKnobs | None = None
) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n)))
    a[0, 0], a[-1, -1], b[0, 0] = np.nan, 0.0, -0.0
    problem = XnorGemmProblem(inner=k, columns=n)
    knobs = knobs or XnorGemmKnobs.default(problem, machine(isa))
    assert knobs is not None
    func = schedule_primfunc(xnor_gemm(problem, knobs, bytewise), machine(isa))
    shape = [-(-m // knobs.tile_h), knobs.tile_h, n]
    rows = run_primfunc(func, [a, b], shape, "float32", isa).reshape(-1, n)
    want = xnor_gemm_reference(a, b)
    np.testing.assert_array_equal(rows[:m], want)
    np.testing.assert_array_equal(rows[m:], np.broadcast_to(want[-1], rows[m:].shape))


@pytest.mark.parametrize("bytewise", [False, True])
@each_isa
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_equal(shape: tuple[int, int, int], isa: str, bytewise: bool) -> None:
    _run(*shape, isa, bytewise)


@given(st.integers(1, 40), st.integers(1, 150), st.integers(1, 150), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_any_shape_is_equal(m: int, k: int, n: int, bytewise: bool, seed: int) -> None:
    _run(m, k, n, "avx2", bytewise, seed)


@pytest.mark.parametrize("vectors", [1, 2, 5])
@pytest.mark.parametrize("tile_h", [1, 3, 8])
def test_any_tile_is_equal(tile_h: int, vectors: int) -> None:
    knobs = XnorGemmKnobs(
        lanes=4, vectors=vectors, tile_h=tile_h, tile_w=1, strip=1, chunks=2, pack_rows=8, pack_panels=32
    )
    _run(10, 40, 23, "sse4", False, knobs=knobs)


def test_the_reference_is_what_pytorch_computes() -> None:
    a, b = torch.randn(9, 70), torch.randn(70, 11)
    want = torch.where(a >= 0, 1.0, -1.0) @ torch.where(b >= 0, 1.0, -1.0)
    np.testing.assert_array_equal(xnor_gemm_reference(a.numpy(), b.numpy()), want.numpy())


def test_no_vector_is_longer_than_a_row() -> None:
    for n in (1, 2, 3, 5, 15, 16, 17, 1025):
        knobs = XnorGemmKnobs.default(XnorGemmProblem(inner=100, columns=n), machine("avx512"))
        assert knobs is not None
        assert knobs.lanes <= n
        assert knobs.chunks * knobs.panel >= n


@pytest.mark.parametrize("words", [1, 31, 32, 33, 257])
def test_words_are_whole_runs_of_bytes(words: int) -> None:
    stored = stored_words(32 * words, bytewise=True)
    assert stored_words(32 * words, bytewise=False) == words <= stored <= words + words // MAX_RUN
    assert any(stored % run == 0 for run in range(MAX_RUN // 2, MAX_RUN + 1)) or words == 1
