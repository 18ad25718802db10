"""Convolution of few-bit inputs by few-bit weights, as binary neural networks have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tvm_fastconv.configs import Bitserial

from .binary_layers import BinaryWeights, Quantization
from .dense_layers import conv_options, factory_of, stand_for, weight_of
from .xnor_products import XnorConv2d

if TYPE_CHECKING:
    from typing_extensions import Self


class BinaryConv2d(BinaryWeights, nn.Conv2d):
    """Convolution of the quantized input by the quantized weight: ``(N, C, H, W)`` to ``(N, O, H', W')``.

    What is padded with zeros is padded behind the quantizer: those taps add nothing.

    Parameters
    ----------
    args, kwargs
        Of the `torch.nn.Conv2d` whose place it takes.
    weight, activation, weight_bits, activation_bits, magnitude
        See `Quantization`.
    """

    def __init__(
        self,
        *args: Any,
        weight: str = "xnor",
        activation: str = "sign",
        weight_bits: int = 1,
        activation_bits: int = 1,
        magnitude: bool = False,
        **kwargs: Any,
    ) -> None:
        nn.Conv2d.__init__(self, *args, **kwargs)
        wanted = Quantization(
            weight=weight,
            activation=activation,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            magnitude=magnitude,
        )
        self._make_quantized(wanted, self.out_channels, self.in_channels, axis=1)

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, config: Bitserial, *, inputs: torch.Tensor | None = None) -> Self:
        """The binary convolution nearest to ``conv``.

        Parameters
        ----------
        conv
        config
        inputs : Tensor, (N, C, H, W), optional
            What the layer gets, to fit the steps of its activations to. Without, one bit has XNOR-Net's magnitudes.

        Raises
        ------
        MethodError
            ``conv`` is no plain convolution, or ``config`` asks for more than one bit of unknown activations.
        """
        weight_of(conv, nn.Conv2d)
        made = cls(**conv_options(conv), **vars(Quantization.of(config, inputs)), **factory_of(conv))
        made._start_from(conv, inputs)
        return stand_for(made, conv)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve ``input``."""
        signs = self.quantized_input(input)
        suits = (
            self.groups == 1 and self.padding_mode == "zeros" and self.padding != "same" and input.ndim == 4
        )
        if suits and self._on_bits(input):
            padding = (0, 0) if self.padding == "valid" else self.padding
            sums = XnorConv2d.apply(signs, self.quantized_weight(), self.stride, padding, self.dilation)
        elif not self.magnitude:
            return self._conv_forward(signs, self.quantized_weight(), self.bias)
        else:
            sums = self._conv_forward(signs, self.quantized_weight(), None)
        if self.magnitude:
            sums = sums * self._magnitude(input)
        return sums if self.bias is None else sums + self.bias[:, None, None]

    def _magnitude(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of |x| under each window, (N, O or 1, H', W')."""
        sizes = x.abs().unflatten(1, (self.groups, -1)).mean(2)
        taps = self.kernel_size[0] * self.kernel_size[1]
        box = x.new_full((self.groups, 1, *self.kernel_size), 1 / taps)
        means = self._conv_forward(sizes, box, None)
        return means if self.groups == 1 else means.repeat_interleave(self.out_channels // self.groups, 1)
