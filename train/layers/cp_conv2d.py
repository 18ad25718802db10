"""Convolution of bounded CP rank: 1×1, depthwise k×1, depthwise 1×k, 1×1 (Lebedev et al., arXiv:1412.6553)."""

from typing import Any

from torch import nn

from tvm_fastconv.configs import CP
from tvm_fastconv.decompose.chain_stages import cp_stages
from tvm_fastconv.decompose.cp import rank_of_ratio
from tvm_fastconv.errors import MethodError

from .chain_conv2d import ChainConv2d, shape_of
from .dense_layers import conv_like


class CPConv2d(ChainConv2d):
    """Stages ``input``, ``column``, ``row`` and ``output``; a side of the kernel that is 1 has none.

    Parameters
    ----------
    args, kwargs
        Of the `torch.nn.Conv2d` whose place it takes.
    rank : int
        Channels between the four.
    """

    config = CP

    def __init__(self, *args: Any, rank: int, **kwargs: Any) -> None:
        like, factory = conv_like(*args, **kwargs)
        super().__init__(like, cp_stages(shape_of(like), CP(rank=rank).rank or 1), factory)

    @property
    def structure(self) -> dict[str, Any]:
        """The rank."""
        return {"rank": self.input.out_channels}

    @classmethod
    def arguments(cls, conv: nn.Conv2d, config: CP) -> dict[str, Any]:
        """The rank."""
        if config.ratio is None:
            return {"rank": config.rank}
        try:
            return {"rank": rank_of_ratio(shape_of(conv), config.ratio)}
        except ValueError as error:
            raise MethodError(str(error)) from None
