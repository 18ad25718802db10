import numpy as np
import pytest
import torch
from torch.nn import functional

from tvm_fastconv.decompose.fixed_stencil import STENCILS, fixed_stencil

from ...close import assert_close


def _weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def test_the_stencils_are_separable_and_independent() -> None:
    assert [np.linalg.matrix_rank(stencil) for stencil in STENCILS] == [1] * 5
    assert np.linalg.matrix_rank(STENCILS.reshape(5, 9)) == 5
    np.testing.assert_array_equal(STENCILS[1], STENCILS[2].T)


def test_pytorch_computes_the_same_with_the_factors() -> None:
    found = fixed_stencil(_weight(10, 7, 3, 3))
    assert (found.depthwise.shape, found.pointwise.shape) == ((35, 1, 3, 3), (10, 35, 1, 1))
    np.testing.assert_array_equal(found.depthwise[13, 0], STENCILS[3])
    x = torch.from_numpy(_weight(2, 7, 9, 9)).double()
    inner = functional.conv2d(x, torch.from_numpy(found.depthwise).double(), groups=7)
    got = functional.conv2d(inner, torch.from_numpy(found.pointwise).double())
    want = functional.conv2d(x, torch.from_numpy(found.weight))
    # 1e-12: the same sums in float64, in another order
    assert_close(got, want, 1e-12)


def test_what_it_misses_is_orthogonal_to_the_stencils(layer: np.ndarray) -> None:
    found = fixed_stencil(layer)
    missed = layer - found.weight
    # 1e-5 and 1e-6: float32 coefficients and norms
    assert np.abs(np.einsum("ocyx,syx->ocs", missed, STENCILS)).max() < 1e-5 * np.abs(layer).max()
    assert found.error == pytest.approx(np.linalg.norm(missed) / np.linalg.norm(layer), abs=1e-6)
    assert 0 < found.error < 1


def test_what_is_made_of_stencils_is_found_exactly() -> None:
    coefficients = _weight(6, 4, 5)
    found = fixed_stencil(np.einsum("ocs,syx->ocyx", coefficients, STENCILS))
    assert_close(found.pointwise.reshape(6, 4, 5), coefficients, 1e-6)  # float32 rounding
    assert found.error < 1e-6


def test_only_kernels_of_3_by_3() -> None:
    with pytest.raises(ValueError, match="the kernel is 5×3; allowed: 3×3"):
        fixed_stencil(_weight(4, 4, 5, 3))
