import numpy as np
import pytest
import torch
from torch.nn import functional

from tvm_fastconv.decompose.depthwise_separable import depthwise_separable

from ...close import assert_close


def _weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize(("shape", "multiplier"), [((10, 8, 3, 5), 1), ((10, 8, 3, 3), 4), ((6, 1, 2, 2), 3)])
def test_pytorch_computes_the_same_with_the_factors(shape: tuple[int, ...], multiplier: int) -> None:
    found = depthwise_separable(_weight(*shape), multiplier=multiplier)
    c = shape[1]
    assert found.depthwise.shape == (c * multiplier, 1, *shape[2:])
    assert found.pointwise.shape == (shape[0], c * multiplier, 1, 1)
    x = torch.from_numpy(_weight(2, c, 9, 9)).double()
    inner = functional.conv2d(x, torch.from_numpy(found.depthwise).double(), groups=c)
    got = functional.conv2d(inner, torch.from_numpy(found.pointwise).double())
    want = functional.conv2d(x, torch.from_numpy(found.weight))
    # 1e-12: the same sums in float64, in another order
    assert_close(got, want, 1e-12)
    off = np.linalg.norm(_weight(*shape) - found.weight) / np.linalg.norm(_weight(*shape))
    assert found.error == pytest.approx(off, abs=1e-6)  # a float32 norm


def test_the_error_is_that_of_the_singular_values_left_out_in_each_channel() -> None:
    weight = _weight(10, 8, 3, 3)
    values = [np.linalg.svd(weight[:, i].reshape(10, 9), compute_uv=False) for i in range(8)]
    want = np.linalg.norm([v[2:] for v in values]) / np.linalg.norm(values)
    # 1e-6: float32 factors
    assert depthwise_separable(weight, multiplier=2).error == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(("shape", "full"), [((20, 4, 3, 3), 9), ((5, 4, 3, 3), 5)])
def test_full_rank_is_exact(shape: tuple[int, ...], full: int) -> None:
    found = depthwise_separable(_weight(*shape), multiplier=100)
    assert len(found.depthwise) == 4 * full
    assert found.error < 1e-6  # float32 rounding of the factors


def test_more_kernels_come_nearer(layer: np.ndarray) -> None:
    errors = [depthwise_separable(layer, multiplier=m).error for m in (1, 2, 3, 5, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.7 * errors[0]


def test_wrong_parameters() -> None:
    with pytest.raises(ValueError, match="multiplier is 0; allowed: 1 or more"):
        depthwise_separable(_weight(4, 4, 3, 3), multiplier=0)
