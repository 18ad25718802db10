"""ResNet-18 and -34 (He et al., arXiv:1512.03385), and Bi-Real Net (Liu et al., arXiv:1808.00278)."""

import torch
from torch import nn

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Depth to blocks of two convolutions in each stage."""
WIDTHS = (64, 128, 256, 512)
SMALL = 64
"""Images up to this size keep theirs in the first layer, a 3×3 one, as the paper does with CIFAR-10."""


class _BasicBlock(nn.Module):
    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != outputs:
            conv = nn.Conv2d(channels, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class _BiRealBlock(nn.Module):
    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != outputs:
            pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
            conv = nn.Conv2d(channels, outputs, 1, bias=False)
            self.shortcut = nn.Sequential(pool, conv, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) + self.shortcut(x)


class ResNet(nn.Module):
    """``stem``, ``layer1`` to ``layer4``, a mean, ``classifier``.

    Parameters
    ----------
    classes, channels, size
        Of the labels and the images, ``size`` pixels high and wide.
    depth
        18 or 34.
    width
        In multiples of the paper's.
    bi_real
        A shortcut around every 3×3 convolution and no ReLU, so that the real numbers that a binary one would lose
        pass beside it.
    """

    def __init__(
        self,
        classes: int = 1000,
        channels: int = 3,
        size: int = 224,
        depth: int = 18,
        width: float = 1,
        bi_real: bool = False,
    ) -> None:
        super().__init__()
        if depth not in STAGES:
            raise ValueError(f"depth is {depth}; allowed: {', '.join(map(str, STAGES))}")
        first, *_ = widths = [max(1, round(width * count)) for count in WIDTHS]
        kernel, stride = (3, 1) if size <= SMALL else (7, 2)
        stem = [nn.Conv2d(channels, first, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(first)]
        stem += [] if bi_real else [nn.ReLU()]
        stem += [] if size <= SMALL else [nn.MaxPool2d(3, 2, 1)]
        self.stem = nn.Sequential(*stem)
        filled = first
        for number, (outputs, count) in enumerate(zip(widths, STAGES[depth], strict=True), 1):
            block, count = (_BiRealBlock, 2 * count) if bi_real else (_BasicBlock, count)
            strides = [1 if number == 1 else 2] + [1] * (count - 1)
            blocks = [block(filled if not index else outputs, outputs, s) for index, s in enumerate(strides)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            filled = outputs
        self.average = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(filled, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores ``(N, classes)`` for images ``(N, channels, size, size)``."""
        x = images
        for part in self.children():
            x = part(x)
        return x
