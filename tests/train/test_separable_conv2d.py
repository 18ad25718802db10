import pytest
import torch
from torch import nn

from tvm_fastconv.train.separable_conv2d import CPConv2d, DepthwiseSeparableConv2d, SpatialConv2d

GEOMETRIES = [(3, 1, 1, False), (3, 2, 1, True), (5, 1, 0, True), (5, 2, 2, False)]
"""Kernel size, stride, padding, bias."""


def _check_equals_dense(
    layer: nn.Sequential, equation: str, kernel_size: int, stride: int, padding: int
) -> None:
    """Compare ``layer`` with one convolution by the product of its factors."""
    layer = layer.double()
    x = torch.randn(2, 7, 9, 12, dtype=torch.float64)
    kernel = torch.einsum(equation, *(part.weight for part in layer))
    assert kernel.shape[1:] == (7, kernel_size, kernel_size)
    want = nn.functional.conv2d(x, kernel, layer[-1].bias, stride, padding)
    torch.testing.assert_close(layer(x), want)


@pytest.mark.parametrize(("kernel_size", "stride", "padding", "bias"), GEOMETRIES)
def test_a_factorised_convolution_is_one_convolution_by_the_product(
    kernel_size: int, stride: int, padding: int, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = SpatialConv2d(7, 6, kernel_size, stride=stride, padding=padding, bias=bias)
    assert [part.kernel_size for part in layer] == [(kernel_size, 1), (1, kernel_size)]
    assert [part.out_channels for part in layer] == [6, 6]
    assert [part.bias is not None for part in layer] == [False, bias]
    _check_equals_dense(layer, "mcrx,omys->ocrs", kernel_size, stride, padding)


@pytest.mark.parametrize(("kernel_size", "stride", "padding", "bias"), GEOMETRIES)
def test_cp_factors_are_one_convolution_by_the_product(
    kernel_size: int, stride: int, padding: int, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = CPConv2d(7, 6, kernel_size, rank=4, stride=stride, padding=padding, bias=bias)
    assert [part.kernel_size for part in layer] == [(1, 1), (kernel_size, 1), (1, kernel_size), (1, 1)]
    assert [part.groups for part in layer] == [1, 4, 4, 1]
    assert [part.bias is not None for part in layer] == [False, False, False, bias]
    _check_equals_dense(layer, "kcxy,kurz,kvws,okmn->ocrs", kernel_size, stride, padding)


@pytest.mark.parametrize(("kernel_size", "stride", "padding", "bias"), GEOMETRIES)
def test_a_depthwise_separable_convolution_without_activation_is_one_convolution_by_the_product(
    kernel_size: int, stride: int, padding: int, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = DepthwiseSeparableConv2d(
        7, 6, kernel_size, stride=stride, padding=padding, bias=bias, activation=False
    )
    assert [part.groups for part in layer] == [7, 1]
    assert [part.bias is not None for part in layer] == [False, bias]
    _check_equals_dense(layer, "curs,ocmn->ocrs", kernel_size, stride, padding)


def test_the_activation_stands_between_depthwise_and_pointwise() -> None:
    torch.manual_seed(0)
    layer = DepthwiseSeparableConv2d(5, 6, 3, padding=1).eval()
    assert [name for name, _ in layer.named_children()] == ["depthwise", "norm", "relu", "pointwise"]
    x = torch.randn(2, 5, 9, 8)
    nn.init.normal_(layer.norm.bias)
    planes = nn.functional.conv2d(x, layer.depthwise.weight, padding=1, groups=5)
    middle = torch.relu(planes / (1 + layer.norm.eps) ** 0.5 + layer.norm.bias[:, None, None])
    want = torch.einsum("oc,nchw->nohw", layer.pointwise.weight[:, :, 0, 0], middle)
    torch.testing.assert_close(layer(x), want + layer.pointwise.bias[:, None, None])
