"""Convolution along the height, then along the width: k×1, 1×k (Jaderberg et al., arXiv:1405.3866, scheme 2)."""

from typing import Any

from torch import nn

from tvm_fastconv.configs import SpatialSeparable
from tvm_fastconv.decompose.chain_stages import spatial_stages

from .chain_conv2d import ChainConv2d, shape_of
from .dense_layers import conv_like


class SpatialSeparableConv2d(ChainConv2d):
    """Stages ``column`` and ``row``.

    Parameters
    ----------
    args, kwargs
        Of the `torch.nn.Conv2d` whose place it takes.
    rank : int
        Channels between the two, in multiples of the output channels.
    channels : int, optional
        Channels between the two, in place of ``rank``.
    """

    config = SpatialSeparable

    def __init__(self, *args: Any, rank: int = 1, channels: int | None = None, **kwargs: Any) -> None:
        like, factory = conv_like(*args, **kwargs)
        if channels is None:
            channels = (SpatialSeparable(rank=rank).rank or 1) * like.out_channels
        super().__init__(like, spatial_stages(shape_of(like), channels), factory)

    @property
    def structure(self) -> dict[str, Any]:
        """The channels between."""
        return {"channels": self.column.out_channels}

    @classmethod
    def arguments(cls, conv: nn.Conv2d, config: SpatialSeparable) -> dict[str, Any]:
        """The rank."""
        return {"rank": config.rank}
