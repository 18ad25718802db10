"""Chains of separable convolutions to measure, and the dense convolution that each one stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

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


def depthwise_separable(
    channels: int, outputs: int, kernel: int = 3, activation: bool = True
) -> nn.Sequential:
    """k×k depthwise, batch norm and ReLU, then 1×1: MobileNet's layer."""
    middle = [nn.BatchNorm2d(channels), nn.ReLU()] if activation else []
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=not activation),
        *middle,
        nn.Conv2d(channels, outputs, 1),
    )


def cp(channels: int, outputs: int, rank: int, kernel: int = 3) -> nn.Sequential:
    """1×1, depthwise k×1 and 1×k, 1×1 (Lebedev et al., arXiv:1412.6553)."""
    pad = kernel // 2
    return nn.Sequential(
        nn.Conv2d(channels, rank, 1, bias=False),
        nn.Conv2d(rank, rank, (kernel, 1), padding=(pad, 0), groups=rank, bias=False),
        nn.Conv2d(rank, rank, (1, kernel), padding=(0, pad), groups=rank, bias=False),
        nn.Conv2d(rank, outputs, 1),
    )


def spatial(channels: int, outputs: int, kernel: int) -> nn.Sequential:
    """k×1, then 1×k: a simply factorised convolution."""
    pad = kernel // 2
    return nn.Sequential(
        nn.Conv2d(channels, outputs, (kernel, 1), padding=(pad, 0), bias=False),
        nn.Conv2d(outputs, outputs, (1, kernel), padding=(0, pad)),
    )


STENCILS = (
    ((1, 2, 1), (2, 4, 2), (1, 2, 1)),
    ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    ((1, 0, -1), (0, 0, 0), (-1, 0, 1)),
    ((0, 0, 0), (0, 1, 0), (0, 0, 0)),
)
"""Blur, two derivatives, diagonal difference, identity: fxnn's five."""


def fixed_stencils(channels: int, outputs: int) -> nn.Sequential:
    """The five stencils over every channel, then 1×1."""
    stencils = nn.Conv2d(channels, 5 * channels, 3, padding=1, groups=channels, bias=False)
    stencils.weight.data.copy_(torch.tensor(STENCILS, dtype=torch.float32).repeat(channels, 1, 1)[:, None])
    return nn.Sequential(stencils, nn.Conv2d(5 * channels, outputs, 1))


LAYERS = (
    *(
        ChainLayer(
            kind="depthwise-separable", channels=c, outputs=o, size=size, linear=False,
            build=lambda c=c, o=o: depthwise_separable(c, o),
        )
        for c, o, size in ((96, 256, 16), (128, 128, 28), (256, 512, 14))
    ),
    *(
        ChainLayer(
            kind=f"cp {rank}", channels=c, outputs=c, size=size, build=lambda c=c, rank=rank: cp(c, c, rank)
        )
        for c, size, rank in ((128, 28, 64), (256, 14, 96))
    ),
    *(
        ChainLayer(
            kind="stencils", channels=c, outputs=128, size=size, build=lambda c=c: fixed_stencils(c, 128)
        )
        for c, size in ((64, 56), (128, 28))
    ),
    *(
        ChainLayer(
            kind=f"spatial {k}x1+1x{k}", channels=96, outputs=96, size=32, kernel=k,
            build=lambda k=k: spatial(96, 96, k),
        )
        for k in (3, 5, 7)
    ),
)  # fmt: skip
