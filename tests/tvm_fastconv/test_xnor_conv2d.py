"""`fc.ops.xnor_conv2d` against PyTorch's convolution of signs: sums are equal, gradients straight-through."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import tvm_fastconv as fc

from ..close import assert_close
from .signs import signs, straight_through


def _assert_sums(x: torch.Tensor, weight: torch.Tensor, **options: Any) -> None:
    got, want = fc.ops.xnor_conv2d(x, weight, **options), F.conv2d(signs(x), signs(weight), **options)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


@pytest.mark.native
@given(
    channels=st.integers(1, 70),
    outputs=st.integers(1, 40),
    height=st.integers(3, 9),
    width=st.integers(3, 9),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=8)
def test_any_shape_is_equal(
    channels: int,
    outputs: int,
    height: int,
    width: int,
    kernel: tuple[int, int],
    stride: int,
    padding: tuple[int, int],
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, channels, height, width, generator=generator)
    weight = torch.randn(outputs, channels, *kernel, generator=generator)
    _assert_sums(x, weight, stride=stride, padding=padding)


def test_dilation() -> None:
    _assert_sums(torch.randn(1, 33, 9, 9), torch.randn(8, 33, 3, 3), dilation=(2, 1), padding=(2, 1))


def test_memory_and_floats_of_any_kind() -> None:
    x, weight = torch.randn(2, 40, 6, 6), torch.randn(9, 40, 3, 3)
    _assert_sums(x.contiguous(memory_format=torch.channels_last), weight)
    _assert_sums(x[:, :, ::2, 1:], weight)
    _assert_sums(x.expand(2, 40, 6, 6)[:1].expand(3, 40, 6, 6), weight.transpose(2, 3))
    _assert_sums(x.double(), weight.double())
    _assert_sums(x.bfloat16(), weight.half())


def test_special_values() -> None:
    odd = torch.tensor([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-40, -1e-40]).repeat(5)
    _assert_sums(odd.view(1, 40, 1, 1).expand(1, 40, 3, 3), torch.ones(3, 40, 1, 1))
    _assert_sums(torch.ones(1, 40, 3, 3), odd.view(1, 40, 1, 1))


def test_one_shape_is_compiled_once_and_weights_may_change() -> None:
    x = torch.randn(2, 8, 5, 5)
    for _ in range(3):
        _assert_sums(x, torch.randn(7, 8, 3, 3), padding=1)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _assert_sums(torch.randn(3, 64, 12, 12), torch.randn(65, 64, 3, 3), padding=1)
    finally:
        torch.set_num_threads(before)


def test_gradients_are_those_of_hardtanh() -> None:
    shapes = (2, 40, 6, 7), (9, 40, 3, 3)
    ours = [torch.randn(shape, requires_grad=True) for shape in shapes]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    sums = fc.ops.xnor_conv2d(*ours, stride=2, padding=1)
    expected = F.conv2d(*(straight_through(x) for x in theirs), stride=2, padding=1)
    weights = torch.randn_like(expected)
    (sums * weights).sum().backward()
    (expected * weights).sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        assert 0 < (x.grad == 0).sum() < x.numel()
        assert_close(x.grad, y.grad, 2e-6)  # sums of up to 81 floats, in another order


def test_gradients_have_the_dtype_of_the_input() -> None:
    x = torch.randn(1, 8, 5, 5, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(4, 8, 3, 3)
    fc.ops.xnor_conv2d(x, weight).sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert weight.grad is None


@pytest.mark.parametrize(
    ("x", "weight", "options", "says"),
    [
        (np.ones((1, 2, 3, 3)), torch.ones(1, 2, 3, 3), {}, "x is a numpy.ndarray; expected a torch.Tensor"),
        (torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3).int(), {}, "weight has dtype torch.int32; allowed"),
        (torch.ones(2, 3, 3), torch.ones(1, 2, 3, 3), {}, r"x has shape \(2, 3, 3\), weight \(1, 2, 3, 3\)"),
        (torch.ones(1, 2, 3, 3), torch.ones(1, 3, 3, 3), {}, "the 2 channels of x are not the 3 of weight"),
        (torch.ones(1, 2, 3, 3), torch.ones(1, 2, 5, 5), {}, "the padded plane is smaller than the kernel"),
        (
            torch.ones(1, 2, 3, 3),
            torch.ones(1, 2, 3, 3),
            {"stride": 0},
            r"stride is \(0, 0\); allowed: 1 or more",
        ),
        (torch.ones(0, 2, 3, 3), torch.ones(1, 2, 3, 3), {}, r"x has shape \(0, 2, 3, 3\)"),
    ],
)
def test_errors_say_what_is_wrong(x: Any, weight: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(fc.InputError, match=f"xnor_conv2d: .*{says}"):
        fc.ops.xnor_conv2d(x, weight, **options)
