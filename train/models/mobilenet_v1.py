"""MobileNetV1 (Howard et al., arXiv:1704.04861, table 1)."""

from collections import OrderedDict

from torch import nn

from .blocks import ConvBlock

PLAN = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""Outputs and stride of the depthwise separable layers."""
SMALL = 64
"""Images up to this size keep theirs in the first layer and in the first two that would halve it."""


class MobileNetV1(nn.Sequential):
    """``stem``, ``depthwise1``, ``pointwise1`` to ``pointwise13``, a mean, ``classifier``: images to ``(N, classes)``.

    Parameters
    ----------
    classes, channels, size
        Of the labels and the images, ``size`` pixels high and wide.
    width
        The paper's width multiplier.
    """

    def __init__(self, classes: int = 1000, channels: int = 3, size: int = 224, width: float = 1) -> None:
        filled = max(8, round(32 * width))
        stride = 1 if size <= SMALL else 2
        conv = nn.Conv2d(channels, filled, 3, stride, 1, bias=False)
        parts: OrderedDict[str, nn.Module] = OrderedDict(stem=ConvBlock(channels, filled, conv))
        for number, (outputs, stride) in enumerate(PLAN, 1):
            outputs = max(8, round(outputs * width))
            stride = 1 if size <= SMALL and number <= 4 else stride
            depthwise = nn.Conv2d(filled, filled, 3, stride, 1, groups=filled, bias=False)
            pointwise = nn.Conv2d(filled, outputs, 1, bias=False)
            parts[f"depthwise{number}"] = ConvBlock(filled, filled, depthwise)
            parts[f"pointwise{number}"] = ConvBlock(filled, outputs, pointwise)
            filled = outputs
        parts.update(
            average=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), classifier=nn.Linear(filled, classes)
        )
        super().__init__(parts)
