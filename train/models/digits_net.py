"""A classifier of 8×8 images."""

import torch
from torch import nn

from .blocks import ConvBlock


class DigitsNet(nn.Module):
    """Four 3×3 convolutions, a pooling behind the second, a mean behind the last, one linear layer.

    Parameters
    ----------
    classes, channels
        Of the labels and the images.
    width
        Channels of the first half; the second half has twice as many.
    activation
        Behind every convolution but the last, where it is ReLU; one of `ACTIVATIONS`.
    """

    def __init__(
        self, classes: int = 10, channels: int = 1, width: int = 32, activation: str = "relu"
    ) -> None:
        super().__init__()
        self.stem = ConvBlock(channels, width, activation=activation)
        self.block1 = ConvBlock(width, width, activation=activation)
        self.pool = nn.MaxPool2d(2)
        self.block2 = ConvBlock(width, 2 * width, activation=activation)
        self.block3 = ConvBlock(2 * width, 2 * width)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores ``(N, classes)`` for images ``(N, channels, H, W)``."""
        x = self.pool(self.block1(self.stem(images)))
        x = self.average(self.block3(self.block2(x)))
        return self.classifier(x.flatten(1))
