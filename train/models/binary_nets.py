"""BinaryNet's networks (Courbariaux et al., arXiv:1602.02830): first and last layer in floats, batch norm everywhere.

They are built with float layers; methods make those between binary, see `inner_layers`.
"""

from collections import OrderedDict

import torch
from torch import nn

from .blocks import ACTIVATIONS, ConvBlock


class BinaryMlp(nn.Module):
    """Fully connected: ``hidden1`` to ``hiddenN``, each with batch norm and activation behind it, and ``classifier``.

    Parameters
    ----------
    classes, channels, size
        Of the labels and the images, ``size`` pixels high and wide.
    hidden
        Units of each hidden layer.
    layers
        Hidden layers.
    activation
        One of `blocks.ACTIVATIONS`.
    """

    def __init__(
        self,
        classes: int = 10,
        channels: int = 1,
        size: int = 28,
        hidden: int = 512,
        layers: int = 3,
        activation: str = "none",
    ) -> None:
        super().__init__()
        features, parts = channels * size * size, OrderedDict[str, nn.Module]()
        for number in range(1, layers + 1):
            parts[f"hidden{number}"] = nn.Linear(features, hidden, bias=False)
            parts[f"norm{number}"] = nn.BatchNorm1d(hidden)
            parts[f"activation{number}"] = ACTIVATIONS["relu" if number == layers else activation]()
            features = hidden
        parts["classifier"] = nn.Linear(features, classes)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores ``(N, classes)`` for images ``(N, channels, size, size)``."""
        x = images.flatten(1)
        for part in self.children():
            x = part(x)
        return x


class BinaryConvNet(nn.Module):
    """Six 3×3 convolutions in pairs, a pooling behind each pair, one hidden linear layer.

    Parameters
    ----------
    classes, channels, size
        Of the labels and the images, ``size`` pixels high and wide, at least 8.
    width
        Channels of the first pair, which are the paper's with 128; the others have two and four times as many.
    hidden
        Units of the hidden layer.
    activation
        One of `blocks.ACTIVATIONS`.
    """

    def __init__(
        self,
        classes: int = 10,
        channels: int = 3,
        size: int = 32,
        width: int = 128,
        hidden: int = 1024,
        activation: str = "none",
    ) -> None:
        super().__init__()
        if size < 8:
            raise ValueError(f"size is {size}; allowed: 8 or more")
        blocks: list[nn.Module] = []
        for outputs in (width, 2 * width, 4 * width):
            blocks += [ConvBlock(channels, outputs, activation=activation)]
            blocks += [ConvBlock(outputs, outputs, activation=activation), nn.MaxPool2d(2)]
            channels = outputs
        self.features = nn.Sequential(*blocks)
        self.hidden = nn.Linear(channels * (size // 8) ** 2, hidden, bias=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores ``(N, classes)`` for images ``(N, channels, size, size)``."""
        x = self.features(images).flatten(1)
        return self.classifier(self.relu(self.norm(self.hidden(x))))
