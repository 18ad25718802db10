"""Networks that tests of GPUs share."""

import torch
from torch import nn


def settled(module: nn.Module, images: torch.Tensor) -> nn.Module:
    """In eval mode, with batch norms that these images leave between -1 and 1."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        module.train()(images)
    return module.eval()


class Residual(nn.Module):
    """Two convolutions, and a shortcut that changes the number of channels."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.short = nn.Conv2d(channels, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(torch.relu(self.norm(self.first(x)))) + self.short(x))


def residual_network() -> nn.Module:
    """Pooling of both kinds, a linear layer, channels that are no multiple of anything."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), Residual(16, 33, 2), Residual(33, 32, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
