"""k×k depthwise convolution, then 1×1 (Howard et al., MobileNets, arXiv:1704.04861, section 3.1)."""

from typing import Any

import torch
from torch import nn

from tvm_fastconv.configs import DepthwiseSeparable
from tvm_fastconv.decompose.chain_stages import separable_stages

from .chain_conv2d import ChainConv2d, shape_of
from .dense_layers import conv_like


class DepthwiseSeparableConv2d(ChainConv2d):
    """Stages ``depthwise`` and ``pointwise``.

    Parameters
    ----------
    args, kwargs
        Of the `torch.nn.Conv2d` whose place it takes.
    multiplier : int
        Kernels for each input channel.
    activation : bool
        Whether batch norm and ReLU, ``norm`` and ``relu``, stand between the two, as in MobileNet. The chain is no
        longer linear then.
    """

    config = DepthwiseSeparable

    def __init__(self, *args: Any, multiplier: int = 1, activation: bool = False, **kwargs: Any) -> None:
        like, factory = conv_like(*args, **kwargs)
        count = DepthwiseSeparable(multiplier=multiplier).multiplier
        super().__init__(like, separable_stages(shape_of(like), count), factory)
        if activation:
            self.norm = nn.BatchNorm2d(count * like.in_channels, **factory)
            self.relu = nn.ReLU()

    @property
    def structure(self) -> dict[str, Any]:
        """The multiplier, and whether there is an activation."""
        multiplier = self.depthwise.out_channels // self.in_channels
        return {"multiplier": multiplier, "activation": hasattr(self, "norm")}

    @classmethod
    def arguments(cls, conv: nn.Conv2d, config: DepthwiseSeparable) -> dict[str, Any]:
        """The multiplier."""
        return {"multiplier": config.multiplier}

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve ``input``."""
        x = self.depthwise(input)
        if hasattr(self, "norm"):
            x = self.relu(self.norm(x))
        return self.pointwise(x)
