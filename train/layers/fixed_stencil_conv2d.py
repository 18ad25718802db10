"""3×3 convolution whose spatial part is fixed, as in fxnn: five stencils over every channel, and a trained 1×1."""

from typing import Any

import torch
from torch import nn

from tvm_fastconv.configs import FixedStencil
from tvm_fastconv.decompose.chain_stages import Stage, fixed_stages
from tvm_fastconv.decompose.fixed_stencil import STENCILS
from tvm_fastconv.errors import MethodError

from .chain_conv2d import ChainConv2d, shape_of
from .dense_layers import conv_like, conv_options


class FixedStencils(nn.Module):
    """`STENCILS` over every channel: ``(N, C, H, W)`` to ``(N, 5 C, H', W')``, channel by channel.

    Their weights are a buffer, and this is no `torch.nn.Conv2d`: no optimizer gets them, and no initialization.

    Parameters
    ----------
    args, kwargs
        Of the depthwise `torch.nn.Conv2d` that it is.
    """

    weight: torch.Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        like, factory = conv_like(*args, **kwargs)
        self._like = (like,)  # in a tuple: no submodule
        weight = torch.from_numpy(STENCILS)[:, None].repeat(like.in_channels, 1, 1, 1)
        self.register_buffer("weight", weight.to(**factory))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter ``x``: output ``5 c + i`` is channel ``c`` under stencil ``i``."""
        return self._like[0]._conv_forward(x, self.weight, None)


class FixedStencilConv2d(ChainConv2d):
    """Stages ``stencils``, which are `STENCILS` over every channel, and ``pointwise``, which alone is trained.

    The stencils enlarge noise by 1 to 6 times, as the roots of their squares' sums say. The first weights of the 1×1
    convolution are smaller by as much, so that each stencil has an equal say.

    In training both run as the one dense 3×3 convolution that they are, which takes PyTorch half of the time.

    Parameters
    ----------
    args, kwargs
        Of the `torch.nn.Conv2d`, 3×3, whose place it takes.
    """

    config = FixedStencil

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        like, factory = conv_like(*args, **kwargs)
        if like.kernel_size != (3, 3):
            raise MethodError(f"the kernel is {like.kernel_size[0]}×{like.kernel_size[1]}; allowed: 3×3")
        super().__init__(like, fixed_stages(shape_of(like)), factory)
        with torch.no_grad():
            self.pointwise.weight /= self.stencils.weight.flatten(1).norm(dim=1)[:, None, None]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve ``input``."""
        if not self.training:
            return super().forward(input)
        shares = self.pointwise.weight.unflatten(1, (self.in_channels, -1))[..., 0, 0]
        weight = torch.einsum("oci,ikl->ockl", shares, self.stencils.weight[: len(STENCILS), 0])
        like, _ = conv_like(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            padding_mode=self.padding_mode,
        )
        return like._conv_forward(input, weight, self.pointwise.bias)

    def _convolution(self, stage: Stage, factory: dict[str, Any], *, bias: bool) -> nn.Module:
        made = super()._convolution(stage, factory, bias=bias)
        return made if stage.name == "pointwise" else FixedStencils(**conv_options(made), **factory)
