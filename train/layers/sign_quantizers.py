"""One bit: signs, with the gradients that papers gave them."""

import torch
from torch import nn

from .quantizers import (
    ACTIVATIONS,
    WEIGHTS,
    Quantizer,
    along_channels,
    along_filters,
    register,
    signs,
    straight_through,
)


@register(WEIGHTS, "sign")
@register(ACTIVATIONS, "sign")
class Sign(Quantizer):
    """±1, going back a clip to −1..1 (Courbariaux et al., arXiv:1602.02830, eq. 4)."""

    max_bits = 1
    gives_signs = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        return straight_through(signs(x), x.clamp(-1, 1))


@register(ACTIVATIONS, "approximate_sign")
class ApproximateSign(Quantizer):
    """±1, going back the parabolas ``2x ± x²`` (Liu et al., Bi-Real Net, arXiv:1808.00278, eq. 7)."""

    max_bits = 1
    gives_signs = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        clipped = x.clamp(-1, 1)
        return straight_through(signs(x), clipped * (2 - clipped.abs()))


@register(ACTIVATIONS, "shifted_sign")
class ShiftedSign(ApproximateSign):
    """The sign of what is above a learned shift, one per channel (Liu et al., ReActNet, arXiv:2003.03488, eq. 1)."""

    def __init__(self, bits: int, channels: int, axis: int = 1) -> None:
        super().__init__(bits, channels, axis)
        self.shift = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def start_from(self, values: torch.Tensor) -> None:
        """Shift by the mean of each channel, so that both signs are common."""
        self.shift.copy_(values.movedim(self.axis, 0).flatten(1).mean(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        return super().forward(x - along_channels(self.shift, x, self.axis))


@register(WEIGHTS, "xnor")
class XnorWeights(Quantizer):
    """±mean(|w|) of each filter (Rastegari et al., XNOR-Net, arXiv:1603.05279, eq. 6), going back a clip to −1..1."""

    max_bits = 1
    gives_signs = True

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        scale = weight.detach().abs().flatten(1).mean(1)
        return along_filters(scale, weight) * straight_through(signs(weight), weight.clamp(-1, 1))


class RPReLU(nn.Module):
    """PReLU between two learned shifts, one each per channel (Liu et al., ReActNet, arXiv:2003.03488, eq. 2).

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before = nn.Parameter(torch.zeros(channels))
        self.slope = nn.PReLU(channels)
        self.after = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C, ...)``, same shape."""
        return self.slope(x - along_channels(self.before, x)) + along_channels(self.after, x)
