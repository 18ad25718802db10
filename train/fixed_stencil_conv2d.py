"""Convolutions whose spatial part is fixed, as in fxnn: five 3×3 stencils over every channel, and a trained 1×1."""

from collections import OrderedDict

import torch
from torch import nn

from tvm_fastconv.decompose.fixed_stencil import STENCILS


class FixedStencils(nn.Module):
    """`STENCILS` over every channel: ``(N, C, H, W)`` to ``(N, 5 C, H', W')``, channel by channel.

    Their weights are a buffer: no optimizer gets them, and no initialization that looks for `torch.nn.Conv2d`.

    Parameters
    ----------
    channels, stride, padding
        Of the depthwise convolution that it is.
    """

    weight: torch.Tensor

    def __init__(self, channels: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride
        self.padding = padding
        self.register_buffer("weight", torch.from_numpy(STENCILS)[:, None].repeat(channels, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter ``x``: output ``5 c + i`` is channel ``c`` under stencil ``i``."""
        return nn.functional.conv2d(
            x, self.weight, stride=self.stride, padding=self.padding, groups=self.channels
        )


class FixedStencilConv2d(nn.Sequential):
    """`FixedStencils`, then 1×1, which alone is trained: ``(N, C, H, W)`` to ``(N, O, H', W')``.

    The stencils enlarge noise by 1 to 6 times, as the roots of their squares' sums say. The first weights of the 1×1
    convolution are smaller by as much, so that each stencil has an equal say.

    Parameters
    ----------
    in_channels, out_channels, stride, padding, bias
        Of the 3×3 convolution that it takes the place of.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        stencils = FixedStencils(in_channels, stride=stride, padding=padding)
        pointwise = nn.Conv2d(len(STENCILS) * in_channels, out_channels, 1, bias=bias)
        with torch.no_grad():
            pointwise.weight /= stencils.weight.flatten(1).norm(dim=1)[:, None, None]
        super().__init__(OrderedDict(stencils=stencils, pointwise=pointwise))
