"""Grouped convolutions as networks have them: single layers of every width, and a whole network of groups of 8.

The network is a RegNet (Radosavovic et al., arXiv:2003.13678) of the widths of RegNetY-400MF, whose stages have 6, 13,
26 and 55 groups, without squeeze-and-excitation: residual blocks of 1×1, grouped 3×3 and 1×1.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from .networks import SEED, settle_batch_norm

CONV = "conv"
"""Name of the layer in its one-layer model."""

GROUPS = {2: (51, 52), 4: (25, 26), 8: (13, 14), 12: (9, 10), 16: (7, 8), 24: (5, 6), 40: (3, 4)}
"""Width of a group to an odd and an even number of groups, of 100 to 160 channels together."""


@dataclass(frozen=True)
class GroupedLayer:
    """A 3×3 convolution of a square plane, padded to keep its size before the stride."""

    width: int
    groups: int
    stride: int
    size: int = 28

    @property
    def name(self) -> str:
        """For example ``13 groups of 8, 28x28/2``."""
        return f"{self.groups} groups of {self.width}, {self.size}x{self.size}/{self.stride}"

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding included."""
        return 9 * self.width**2 * self.groups * (-(-self.size // self.stride)) ** 2

    def make(self) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        """The convolution with bias, and its input."""
        channels = self.width * self.groups
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            conv = nn.Conv2d(channels, channels, 3, self.stride, 1, groups=self.groups)
            model = nn.Sequential(OrderedDict({CONV: conv}))
            return model.eval(), (torch.randn(1, channels, self.size, self.size),)


LAYERS = tuple(
    GroupedLayer(width, groups, stride)
    for width, odd_even in GROUPS.items()
    for groups in odd_even
    for stride in (1, 2)
)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()),
            nn.Conv2d(outputs, outputs, 3, stride, 1, groups=outputs // width, bias=False),
            *(nn.BatchNorm2d(outputs), nn.ReLU()),
            *(nn.Conv2d(outputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.branch(x) + self.shortcut(x))


@dataclass(frozen=True)
class GroupedNetwork:
    """A RegNet by the channels and the number of blocks of its stages."""

    name: str
    width: int
    stages: tuple[tuple[int, int], ...]

    def build(self) -> nn.Sequential:
        """``(N, 3, 224, 224)`` to ``(N, 1000)``, as PyTorch initializes it."""
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        channels = 32
        for outputs, depth in self.stages:
            for index in range(depth):
                layers.append(_Block(channels, outputs, 1 if index else 2, self.width))
                channels = outputs
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))

    def make(self, batch: int = 1) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        """Build it in eval mode, with settled batch norms and an input: the same ones every time."""
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            module = self.build()
            settle_batch_norm(module, torch.randn(2, 3, 224, 224))
            return module.eval(), (torch.randn(batch, 3, 224, 224),)


NETWORKS = (GroupedNetwork("RegNet of groups of 8", 8, ((48, 1), (104, 3), (208, 6), (440, 6))),)
