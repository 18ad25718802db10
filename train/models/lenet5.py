"""LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86, 1998)."""

import torch
from torch import nn

from .blocks import ConvBlock


class LeNet5(nn.Module):
    """Three 5×5 convolutions with poolings between, two linear layers, for images of 28×28 or 32×32.

    Batch norm, ReLU and maxima stand where the paper has scaled tangents and means.

    Parameters
    ----------
    classes, channels
        Of the labels and the images.
    size
        Height and width of the images: 28, which the first layer pads, or 32.
    width
        Of all layers but the last, in multiples of the paper's 6, 16, 120 and 84.
    activation
        One of `blocks.ACTIVATIONS`.
    """

    def __init__(
        self, classes: int = 10, channels: int = 1, size: int = 28, width: float = 1, activation: str = "relu"
    ) -> None:
        super().__init__()
        if size not in (28, 32):
            raise ValueError(f"size is {size}; allowed: 28 or 32")
        first, second, third, fourth = (round(width * count) for count in (6, 16, 120, 84))
        padding = (32 - size) // 2
        self.block1 = ConvBlock(
            channels, first, nn.Conv2d(channels, first, 5, padding=padding, bias=False), activation
        )
        self.block2 = ConvBlock(first, second, nn.Conv2d(first, second, 5, bias=False), activation)
        self.block3 = ConvBlock(second, third, nn.Conv2d(second, third, 5, bias=False))
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(third, fourth)
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(fourth, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores ``(N, classes)`` for images ``(N, channels, size, size)``."""
        x = self.pool(self.block2(self.pool(self.block1(images))))
        x = self.block3(x).flatten(1)
        return self.classifier(self.relu(self.hidden(x)))
