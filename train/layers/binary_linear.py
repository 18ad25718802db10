"""Linear layer of few-bit inputs by few-bit weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tvm_fastconv.configs import Bitserial

from .binary_layers import BinaryWeights, Quantization
from .dense_layers import factory_of, linear_options, stand_for, weight_of
from .xnor_products import XnorLinear

if TYPE_CHECKING:
    from typing_extensions import Self


class BinaryLinear(BinaryWeights, nn.Linear):
    """Product of the quantized input with the quantized weight: ``(N, ..., I)`` to ``(N, ..., O)``.

    Parameters
    ----------
    args, kwargs
        Of the `torch.nn.Linear` whose place it takes.
    weight, activation, weight_bits, activation_bits, magnitude
        See `Quantization`; the magnitude is that of each row.
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
        nn.Linear.__init__(self, *args, **kwargs)
        wanted = Quantization(
            weight=weight,
            activation=activation,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            magnitude=magnitude,
        )
        self._make_quantized(wanted, self.out_features, self.in_features, axis=-1)

    @classmethod
    def from_linear(cls, linear: nn.Linear, config: Bitserial, *, inputs: torch.Tensor | None = None) -> Self:
        """The binary layer nearest to ``linear``; see `BinaryConv2d.from_conv`.

        Raises
        ------
        MethodError
            ``linear`` is no plain layer, or ``config`` asks for more than one bit of unknown activations.
        """
        weight_of(linear, nn.Linear)
        made = cls(**linear_options(linear), **vars(Quantization.of(config, inputs)), **factory_of(linear))
        made._start_from(linear, inputs)
        return stand_for(made, linear)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Multiply ``input``."""
        signs = self.quantized_input(input)
        if self._on_bits(input):
            sums = XnorLinear.apply(signs, self.quantized_weight())
        elif not self.magnitude:
            return nn.functional.linear(signs, self.quantized_weight(), self.bias)
        else:
            sums = nn.functional.linear(signs, self.quantized_weight())
        if self.magnitude:
            sums = sums * input.abs().mean(-1, keepdim=True)
        return sums if self.bias is None else sums + self.bias
