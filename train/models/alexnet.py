"""AlexNet in one column (Krizhevsky, arXiv:1404.5997), with its classifier as convolutions."""

import torch
from torch import nn

from .blocks import ConvBlock

PLAN = (
    (64, 11, 4, 2),
    (192, 5, 1, 2),
    (384, 3, 1, 1),
    (256, 3, 1, 1),
    (256, 3, 1, 1),
    (4096, 6, 1, 0),
    (4096, 1, 1, 0),
)
"""Outputs, kernel, stride and padding of all layers but the last."""

POOLED = (1, 2, 5)
"""Layers, from 1, behind which every second pixel is the largest of 3×3."""


class AlexNet(nn.Module):
    """``conv1`` to ``conv7``, each a `ConvBlock`, and ``classifier``, a 1×1 convolution; images of 224×224 or larger.

    Parameters
    ----------
    classes, channels
        Of the labels and the images.
    width
        Of all layers but the last, in multiples of the paper's.
    activation
        One of `blocks.ACTIVATIONS`.
    """

    def __init__(
        self, classes: int = 1000, channels: int = 3, width: float = 1, activation: str = "relu"
    ) -> None:
        super().__init__()
        layers: list[tuple[str, nn.Module]] = []
        for number, (outputs, kernel, stride, padding) in enumerate(PLAN, 1):
            filters = round(width * outputs)
            conv = nn.Conv2d(channels, filters, kernel, stride, padding, bias=False)
            layers.append((f"conv{number}", ConvBlock(channels, filters, conv, activation)))
            if number in POOLED:
                layers.append((f"pool{number}", nn.MaxPool2d(3, 2)))
            channels = filters
        for name, layer in layers:
            self.add_module(name, layer)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores ``(N, classes)`` for images ``(N, channels, H, W)``; means over larger planes."""
        x = images
        for layer in self.children():
            x = layer(x)
        return x.mean((2, 3))
