"""What binary convolutions and linear layers share: which quantizers, and the size of the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tvm_fastconv.configs import Bitserial
from tvm_fastconv.errors import MethodError

from . import multi_bit_quantizers, sign_quantizers  # noqa: F401  (they register themselves)
from .quantizers import ACTIVATIONS, WEIGHTS, Quantizer, make_quantizer


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """Which quantizers.

    Attributes
    ----------
    weight, activation : str
        Names in `quantizers.WEIGHTS` and `quantizers.ACTIVATIONS`.
    weight_bits, activation_bits : int
        1 to 8; what is a sign has 1.
    magnitude : bool
        Whether the result is multiplied by the mean magnitude of the input under each window, in each group of
        channels (Rastegari et al., XNOR-Net, arXiv:1603.05279, eq. 11).
    """

    weight: str = "xnor"
    activation: str = "sign"
    weight_bits: int = 1
    activation_bits: int = 1
    magnitude: bool = False

    @staticmethod
    def of(config: Bitserial, inputs: torch.Tensor | None) -> Quantization:
        """What ``config`` asks for, where ``inputs`` are what the layer gets; without them, XNOR-Net's.

        Raises
        ------
        MethodError
            More than one bit is asked of activations that are not known.
        """
        weight = "xnor" if config.weight_bits == 1 else "lsq"
        bits: dict[str, Any] = {"weight_bits": config.weight_bits, "activation_bits": config.activation_bits}
        if inputs is not None:
            signed = bool((inputs < 0).any())
            return Quantization(weight=weight, activation="signed_lsq" if signed else "lsq", **bits)
        if config.activation_bits > 1:
            raise MethodError(
                f"activation_bits is {config.activation_bits}, for which the range of the activations must be known: "
                "hand over calibration"
            )
        return Quantization(weight=weight, magnitude=True, **bits)


class BinaryWeights(nn.Module):
    """Mixin of a `torch.nn.Conv2d` or `torch.nn.Linear` whose weight and input are quantized.

    Attributes
    ----------
    quantize_weight, quantize_input : Quantizer
    quantizes_weight, quantizes_input : bool
        Whether they are in use yet: schedules that go from floats to bits turn them on.
    runs_on_bits : bool
        Whether compiled kernels are used where they can be, see `xnor_products.use_xnor_`.
    error : float, optional
        Of the weight that it started with, relative to the dense layer's (Frobenius norm), if it came from one.
    """

    weight: nn.Parameter
    quantize_weight: Quantizer
    quantize_input: Quantizer

    def _make_quantized(self, wanted: Quantization, filters: int, channels: int, axis: int) -> None:
        self.quantization = wanted
        self.quantizes_input = self.quantizes_weight = True
        self.runs_on_bits = False
        self.error: float | None = None
        self.quantize_weight = make_quantizer(WEIGHTS, wanted.weight, wanted.weight_bits, filters)
        self.quantize_input = make_quantizer(
            ACTIVATIONS, wanted.activation, wanted.activation_bits, channels, axis
        )
        for quantizer in (self.quantize_weight, self.quantize_input):
            quantizer.to(self.weight)
        if not self.weight.is_meta:
            self.quantize_weight.start_from(self.weight)

    @property
    def structure(self) -> dict[str, Any]:
        """Arguments that, beside those of the dense layer, make such a layer again."""
        return dict(vars(self.quantization))

    @property
    def magnitude(self) -> bool:
        """Whether the result is multiplied by the mean magnitude of the input."""
        return self.quantization.magnitude

    @torch.no_grad()
    def _start_from(self, dense: nn.Conv2d | nn.Linear, inputs: torch.Tensor | None) -> None:
        """Take over the weight, and fit the quantizers to it and to ``inputs``."""
        self.weight.copy_(dense.weight)
        self.quantize_weight.start_from(self.weight)
        if inputs is not None:
            self.quantize_input.start_from(inputs)
        missed = self.quantize_weight(self.weight) - self.weight
        self.error = float(missed.norm() / self.weight.norm().clamp(min=torch.finfo(missed.dtype).tiny))

    def quantized_weight(self) -> torch.Tensor:
        """The weight that the layer uses."""
        return self.quantize_weight(self.weight) if self.quantizes_weight else self.weight

    def _on_bits(self, x: torch.Tensor) -> bool:
        """Whether a kernel of packed bits is to multiply signs like ``x``."""
        quantizers = (self.quantize_weight, self.quantize_input)
        return (
            (self.runs_on_bits and self.quantizes_input and self.quantizes_weight)
            and (x.device.type == "cpu" and x.ndim > 1 and x.numel() > 0)
            and all(quantizer.gives_signs and quantizer.bits == 1 for quantizer in quantizers)
            and not torch.compiler.is_compiling()
        )

    def quantized_input(self, x: torch.Tensor) -> torch.Tensor:
        """What the layer takes ``x`` for."""
        return self.quantize_input(x) if self.quantizes_input else x
