"""Networks to train: small ones, each a plain ``nn.Module`` whose layers have names worth reading in a report."""

import torch
from torch import nn

from .digits import CLASSES


class ConvBlock(nn.Sequential):
    """3×3 convolution without bias, batch norm, ReLU: ``(N, inputs, H, W)`` to ``(N, outputs, H, W)``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()


class DigitsNet(nn.Module):
    """Classifier of 8×8 digits: four convolutions, two poolings, one linear layer.

    Parameters
    ----------
    width
        Channels of the first half; the second half has twice as many.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = ConvBlock(1, width)
        self.block1 = ConvBlock(width, width)
        self.pool = nn.MaxPool2d(2)
        self.block2 = ConvBlock(width, 2 * width)
        self.block3 = ConvBlock(2 * width, 2 * width)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(2 * width, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return class scores ``(N, 10)`` for images ``(N, 1, 8, 8)``."""
        x = self.pool(self.block1(self.stem(images)))
        x = self.average(self.block3(self.block2(x)))
        return self.classifier(x.flatten(1))
