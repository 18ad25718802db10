import pytest
import torch
from torch import nn

from tvm_fastconv.relay_passes.dense.dispatch_depthwise import DispatchDepthwise

from ..operators import PLANNER, canonical, operators

IMAGE = torch.randn(2, 8, 9, 10)

MADE: dict[str, tuple[nn.Module, list[str]]] = {
    "depthwise": (nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), ["depthwise_conv2d"]),
    "several outputs of a channel": (nn.Conv2d(8, 16, 3, groups=8, bias=False), ["depthwise_conv2d"]),
    "strided": (nn.Conv2d(8, 8, (3, 5), 2, groups=8, bias=False), ["depthwise_conv2d"]),
    "groups of two": (nn.Conv2d(8, 8, 3, groups=4, bias=False), ["nn.conv2d"]),
    "dense": (nn.Conv2d(8, 8, 3, bias=False), ["nn.conv2d"]),
    "max pooling": (nn.MaxPool2d(3, 2, 1), ["max_pool2d"]),
    "average pooling": (nn.AvgPool2d(2), ["avg_pool2d"]),
    "average pooling that leaves its padding out": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), ["avg_pool2d"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_what_slides_over_one_channel_at_a_time_becomes_ours(name: str) -> None:
    model, expected = MADE[name]
    assert operators(canonical(model, IMAGE, DispatchDepthwise(PLANNER))) == expected


def test_one_channel_is_a_dense_convolution() -> None:
    mod = canonical(nn.Conv2d(1, 4, 3, bias=False), IMAGE[:, :1], DispatchDepthwise(PLANNER))
    assert operators(mod) == ["nn.conv2d"]
