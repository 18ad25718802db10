"""A plain network of 3×3 convolutions, in which fxnn's fixed stencils may take the place of all of them."""

import torch
from torch import nn

from .blocks import ConvBlock


class Fxnn(nn.Module):
    """Three 3×3 convolutions with poolings between, a mean, one linear layer.

    Parameters
    ----------
    classes, channels
        Of the labels and the images.
    width
        Channels of the first convolution; the others have two and four times as many.
    activation
        Behind the first two, one of `blocks.ACTIVATIONS`.
    """

    def __init__(
        self, classes: int = 10, channels: int = 1, width: int = 16, activation: str = "relu"
    ) -> None:
        super().__init__()
        self.block1 = ConvBlock(channels, width, activation=activation)
        self.block2 = ConvBlock(width, 2 * width, activation=activation)
        self.block3 = ConvBlock(2 * width, 4 * width)
        self.pool = nn.MaxPool2d(2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(4 * width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores ``(N, classes)`` for images ``(N, channels, H, W)``."""
        x = self.pool(self.block2(self.pool(self.block1(images))))
        return self.classifier(self.average(self.block3(x)).flatten(1))
