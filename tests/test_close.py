import numpy as np
import pytest
import torch

from .close import assert_close

WANT = np.array([1000.0, -1.0, 0.0])


def test_an_error_counts_relative_to_the_largest_value() -> None:
    assert_close(WANT + 0.9e-3, WANT, 1e-6)
    assert_close(torch.from_numpy(WANT).requires_grad_(), -torch.from_numpy(-WANT), 0.0)


@pytest.mark.parametrize("wrong", [WANT + 1.1e-3, WANT[:2], WANT[None], np.array([1000.0, -1.0, np.nan])])
def test_what_is_further_off_or_has_another_shape_is_not_close(wrong: np.ndarray) -> None:
    with pytest.raises(AssertionError):
        assert_close(wrong, WANT, 1e-6)


def test_zeros_are_close_to_zeros_only() -> None:
    assert_close(np.zeros(3), np.zeros(3), 1e-6)
    with pytest.raises(AssertionError):
        assert_close(np.full(3, 1e-30), np.zeros(3), 1e-6)
