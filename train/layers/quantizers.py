"""Quantizers to train with: what they are, and how they are found by name.

Going forward they round, going back they have the gradient of something smoother (Bengio et al., "straight-through",
arXiv:1308.3432). Written as ``rounded.detach() + (smooth - smooth.detach())``, which is exactly what was rounded, all
of them export to standard operators of which the compiler keeps the rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeVar

import torch
from torch import nn

from tvm_fastconv.errors import MethodError

MAX_BITS = 8


class Quantizer(nn.Module):
    """Base of all quantizers.

    Parameters
    ----------
    bits : int
        1 to `max_bits`.
    channels : int
        Of the activations, or filters of the weight ``(O, ...)``: what has a parameter of its own each.
    axis : int
        Of the channels in the activations: 1, or −1 behind all others.
    """

    max_bits: ClassVar[int] = MAX_BITS
    gives_signs: ClassVar[bool] = False
    """Whether one bit stands for both signs of one magnitude, which a weight has for each filter."""

    def __init__(self, bits: int, channels: int, axis: int = 1) -> None:
        super().__init__()
        if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= self.max_bits:
            allowed = "1" if self.max_bits == 1 else f"1 to {self.max_bits}"
            raise MethodError(f"bits is {bits!r}; allowed for {type(self).__name__}: {allowed}")
        self.bits, self.channels, self.axis = bits, channels, axis

    def start_from(self, values: torch.Tensor) -> None:
        """Fit what is learned, if anything, to ``values`` that are to be quantized."""

    def extra_repr(self) -> str:
        """Bits."""
        return f"bits={self.bits}"


Class = TypeVar("Class", bound=type[Quantizer])

ACTIVATIONS: dict[str, type[Quantizer]] = {}
"""Name to quantizer of activations."""
WEIGHTS: dict[str, type[Quantizer]] = {}
"""Name to quantizer of weights."""


def register(registry: dict[str, type[Quantizer]], name: str) -> Callable[[Class], Class]:
    """Decorator that makes a quantizer known by ``name`` in `ACTIVATIONS` or `WEIGHTS`."""

    def known(cls: Class) -> Class:
        registry[name] = cls
        return cls

    return known


def make_quantizer(
    registry: dict[str, type[Quantizer]], name: str, bits: int, channels: int, axis: int = 1
) -> Quantizer:
    """The quantizer that is known by ``name``.

    Raises
    ------
    MethodError
        There is none of that name, or not with so many bits.
    """
    if name not in registry:
        raise MethodError(f"quantizer {name!r} is not known; known are {', '.join(registry)}")
    return registry[name](bits, channels, axis)


def straight_through(rounded: torch.Tensor, smooth: torch.Tensor) -> torch.Tensor:
    """``rounded`` going forward, the gradient of ``smooth`` going back."""
    return rounded.detach() + (smooth - smooth.detach())


def signs(x: torch.Tensor) -> torch.Tensor:
    """+1 where ``x >= 0``, else −1."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


def along_channels(parameter: torch.Tensor, x: torch.Tensor, axis: int = 1) -> torch.Tensor:
    """``parameter`` (C,) beside ``x``, whose channels are at ``axis``."""
    return parameter if axis == -1 else parameter.view(-1, *[1] * (x.ndim - 2))


def along_filters(parameter: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``parameter`` (O,) beside ``weight`` (O, ...)."""
    return parameter.view(-1, *[1] * (weight.ndim - 1))
