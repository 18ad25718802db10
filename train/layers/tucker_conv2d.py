"""Convolution between fewer channels: 1×1, k×k, 1×1 (Kim et al., arXiv:1511.06530)."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from tvm_fastconv.configs import Tucker
from tvm_fastconv.decompose.chain_stages import tucker_stages

from .chain_conv2d import ChainConv2d, shape_of
from .dense_layers import conv_like


class TuckerConv2d(ChainConv2d):
    """Stages ``input``, ``core`` and ``output``; without the first or last where it would change no number of channels.

    Parameters
    ----------
    args, kwargs
        Of the `torch.nn.Conv2d` whose place it takes.
    ranks : sequence of two int
        Input and output channels of the core, at most those of the layer.
    """

    config = Tucker

    def __init__(self, *args: Any, ranks: Sequence[int], **kwargs: Any) -> None:
        like, factory = conv_like(*args, **kwargs)
        pair: Any = tuple(ranks)
        Tucker(ranks=pair)  # or says what is allowed
        q, p = min(pair[0], like.in_channels), min(pair[1], like.out_channels)
        super().__init__(like, tucker_stages(shape_of(like), (q, p)), factory)

    @property
    def structure(self) -> dict[str, Any]:
        """The ranks."""
        return {"ranks": [self.core.in_channels, self.core.out_channels]}

    @classmethod
    def arguments(cls, conv: nn.Conv2d, config: Tucker) -> dict[str, Any]:
        """The ranks."""
        return {"ranks": config.ranks}
