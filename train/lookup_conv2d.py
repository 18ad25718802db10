"""Lookup convolutions to train, as in LCNN (Bagherinezhad et al., arXiv:1611.06473)."""

import math
from collections import OrderedDict

import torch
from torch import nn

THRESHOLD = 0.01
"""Of a weight that is dropped, in units of the largest that PyTorch initializes a convolution with."""


class SparseConv2d(nn.Conv2d):
    """Convolution that drops small weights while it trains: ``(N, C, H, W)`` to ``(N, O, H', W')``.

    A weight counts as 0 where ``|w| <= threshold``, with ``threshold = 0.01 / sqrt(C * KH * KW)``. A forward pass in
    training drops it for good: it gets no gradient any more, and whatever momentum still moves it, it stays 0.

    Parameters
    ----------
    penalty
        The paper's λ: the gradient of `regularization` is ``penalty * threshold * sign(w)``.
    """

    kept: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        bias: bool = True,
        penalty: float = 0.3,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, bias=bias)
        self.penalty = penalty
        self.threshold = THRESHOLD / math.sqrt(self.weight[0].numel())
        self.register_buffer("kept", torch.ones_like(self.weight, dtype=torch.bool))

    def sparse_weight(self) -> torch.Tensor:
        """Return the weights that the convolution uses, exactly 0 where they are dropped or small."""
        return self.weight * (self.kept & (self.weight.abs() > self.threshold))

    def regularization(self) -> torch.Tensor:
        """Return the L1 penalty, which the training loop adds to the loss."""
        return self.penalty * self.threshold * self.sparse_weight().abs().sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve ``x``, after dropping what has become small if this is training."""
        if self.training:
            self.kept &= self.weight.detach().abs() > self.threshold
        return self._conv_forward(x, self.sparse_weight(), self.bias)


class LookupConv2d(nn.Sequential):
    """Convolution by lookups into a dictionary: ``(N, C, H, W)`` to ``(N, O, H', W')``.

    A 1×1 convolution multiplies every pixel by each of the dictionary's vectors; a `SparseConv2d` adds up the few
    products that each output looks up. The first one pads, and has no bias so that what it pads is 0.

    Parameters
    ----------
    dictionary_size
        Vectors in the dictionary.
    stride, bias, penalty
        Of the `SparseConv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dictionary_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        penalty: float = 0.3,
    ) -> None:
        dictionary = nn.Conv2d(in_channels, dictionary_size, 1, padding=padding, bias=False)
        lookups = SparseConv2d(
            dictionary_size, out_channels, kernel_size, stride=stride, bias=bias, penalty=penalty
        )
        super().__init__(OrderedDict(dictionary=dictionary, lookups=lookups))
