"""Chains of separable convolutions to measure, and the dense convolution that each one stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tvm_fastconv.train.layers import (
    CPConv2d,
    DepthwiseSeparableConv2d,
    FixedStencilConv2d,
    SpatialSeparableConv2d,
)

from .networks import SEED


@dataclass(frozen=True, kw_only=True)
class ChainLayer:
    """A chain over a square plane whose size it keeps.

    ``build`` makes its modules; ``linear`` chains have no activation inside, and so equal one dense convolution, of
    ``kernel`` × ``kernel``.
    """

    kind: str
    channels: int
    outputs: int
    size: int
    build: Callable[[], nn.Sequential]
    kernel: int = 3
    linear: bool = True

    @property
    def name(self) -> str:
        """For example ``cp 64 128-128 28x28``."""
        return f"{self.kind} {self.channels}-{self.outputs} {self.size}x{self.size}"

    def make(self) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        """The chain and its input."""
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            module = self.build().eval()
            return module, (torch.randn(1, self.channels, self.size, self.size),)

    def make_dense(self) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        """The dense convolution: its kernel is what the chain makes of single pixels."""
        chain, inputs = self.make()
        side = 2 * self.kernel - 1
        pixels = torch.zeros(self.channels, self.channels, side, side)
        pixels[range(self.channels), range(self.channels), side // 2, side // 2] = 1
        reach = self.kernel // 2
        middle = slice(side // 2 - reach, side // 2 + reach + 1)
        dense = nn.Conv2d(self.channels, self.outputs, self.kernel, padding=reach)
        with torch.no_grad():
            bias = chain(torch.zeros(1, self.channels, side, side))
            kernels = (chain(pixels) - bias)[:, :, middle, middle]
            dense.weight.copy_(kernels.transpose(0, 1).flip(2, 3))
            dense.bias.copy_(bias[0, :, side // 2, side // 2])
        return dense.eval(), inputs


LAYERS = (
    *(
        ChainLayer(
            kind="depthwise-separable", channels=c, outputs=o, size=size, linear=False,
            build=lambda c=c, o=o: DepthwiseSeparableConv2d(c, o, 3, padding=1, activation=True),
        )
        for c, o, size in ((96, 256, 16), (128, 128, 28), (256, 512, 14))
    ),
    *(
        ChainLayer(
            kind=f"cp {rank}", channels=c, outputs=c, size=size,
            build=lambda c=c, rank=rank: CPConv2d(c, c, 3, rank=rank, padding=1),
        )
        for c, size, rank in ((128, 28, 64), (256, 14, 96))
    ),
    *(
        ChainLayer(
            kind="stencils", channels=c, outputs=128, size=size,
            build=lambda c=c: FixedStencilConv2d(c, 128, 3, padding=1),
        )
        for c, size in ((64, 56), (128, 28))
    ),
    *(
        ChainLayer(
            kind=f"spatial {k}x1+1x{k}", channels=96, outputs=96, size=32, kernel=k,
            build=lambda k=k: SpatialSeparableConv2d(96, 96, k, padding=k // 2),
        )
        for k in (3, 5, 7)
    ),
)  # fmt: skip
