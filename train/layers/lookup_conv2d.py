"""Convolution by lookups into a dictionary, as in LCNN (Bagherinezhad et al., arXiv:1611.06473)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tvm_fastconv.configs import Lookup

from .dense_layers import conv_like, conv_options, factory_of, stand_for, weight_of
from .lookup_factors import check_size, fresh_options, grouped_lookup
from .lookup_layers import LookupLayer
from .sparse_weights import PENALTY, SparseWeights

if TYPE_CHECKING:
    from typing_extensions import Self


class SparseConv2d(SparseWeights, nn.Conv2d):
    """Convolution that drops small weights while it trains: ``(N, C, H, W)`` to ``(N, O, H', W')``.

    Parameters
    ----------
    args, kwargs
        Of `torch.nn.Conv2d`.
    penalty
        The paper's λ.
    """

    def __init__(self, *args: Any, penalty: float = PENALTY, **kwargs: Any) -> None:
        nn.Conv2d.__init__(self, *args, **kwargs)
        self._make_droppable(penalty)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve ``x``, after dropping what has become small if this is training."""
        if self.training:
            self.drop_small_()
        return self._conv_forward(x, self.sparse_weight(), self.bias)


class LookupConv2d(LookupLayer):
    """Convolution by lookups into a dictionary: ``(N, C, H, W)`` to ``(N, O, H', W')``.

    ``dictionary``, a 1×1 convolution, multiplies every pixel by each of its vectors; ``lookups``, a `SparseConv2d` with
    the geometry of the layer, adds up the few products that each output looks up. The dictionary has no bias, so that
    zeros stay what they are wherever they are padded. Every group of channels has a dictionary of its own.

    Parameters
    ----------
    args, kwargs
        Of the `torch.nn.Conv2d` whose place it takes.
    dictionary_size : int
        Vectors in each dictionary, at most one for every filter and tap.
    penalty : float
        The paper's λ.
    """

    def __init__(self, *args: Any, dictionary_size: int, penalty: float = PENALTY, **kwargs: Any) -> None:
        super().__init__()
        like, factory = conv_like(*args, **kwargs)
        check_size(
            dictionary_size, like.out_channels // like.groups * like.kernel_size[0] * like.kernel_size[1]
        )
        products = like.groups * dictionary_size
        self.dictionary = nn.Conv2d(like.in_channels, products, 1, groups=like.groups, bias=False, **factory)
        nn.init.kaiming_uniform_(self.dictionary.weight, nonlinearity="linear")
        options = conv_options(like) | {"in_channels": products}
        self.lookups = SparseConv2d(**options, penalty=penalty, **factory)

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, config: Lookup, *, penalty: float = PENALTY) -> Self:
        """The lookups nearest to ``conv``.

        Raises
        ------
        MethodError
            ``config`` names no dictionary size, or ``conv`` cannot be approximated so.
        """
        weight = weight_of(conv, nn.Conv2d)
        found = grouped_lookup(weight, config, conv.groups)
        size = len(found.dictionary) // conv.groups
        made = cls(**conv_options(conv), dictionary_size=size, penalty=penalty, **factory_of(conv))
        made.error = found.error
        with torch.no_grad():
            made.dictionary.weight.copy_(torch.from_numpy(found.dictionary[:, :, None, None]))
        made.lookups.start_from(torch.from_numpy(found.coefficients))
        return stand_for(made, conv)

    @classmethod
    def fresh(cls, conv: nn.Conv2d, config: Lookup, *, penalty: float = PENALTY) -> Self:
        """Lookups with the geometry of ``conv``, all of them there still, on the way to the density of ``config``.

        Raises
        ------
        MethodError
            ``config`` names no dictionary size, or asks for an error, which depends on weights.
        """
        options = conv_options(conv) | fresh_options(config)
        made = stand_for(cls(**options, penalty=penalty, **factory_of(conv)), conv)
        made.lookups.target_density = config.density
        return made
