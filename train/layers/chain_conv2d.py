"""Base of the convolutions that are chains of small ones: linear, so that each is exactly one dense convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from tvm_fastconv.configs import Method
from tvm_fastconv.decompose.chain_stages import Geometry, Stage
from tvm_fastconv.decompose.factor_chains import chain_of
from tvm_fastconv.errors import MethodError

from .dense_layers import conv_options, factory_of, stand_for, weight_of

if TYPE_CHECKING:
    from typing_extensions import Self


class ChainConv2d(nn.Module):
    """Convolutions in a row, the last of them with the bias: ``(N, C, H, W)`` to ``(N, O, H', W')``.

    Every stride, padding, padding mode and dilation of `torch.nn.Conv2d`; one group. The stages are submodules, by
    the names that `decompose.chain_stages` gives them. First weights keep the variance of what they convolve, but for
    the last stage's, which are PyTorch's: a chain's output is as large as a dense layer's.

    Attributes
    ----------
    error : float, optional
        Of the weight that it started with, relative to the dense layer's (Frobenius norm), if it came from one.
    """

    config: ClassVar[Any]
    """What `from_conv` is asked with."""

    def __init__(self, like: nn.Conv2d, stages: Sequence[Stage], factory: dict[str, Any]) -> None:
        super().__init__()
        if like.groups != 1:
            raise MethodError(f"groups is {like.groups}; allowed for {type(self).__name__}: 1")
        self.in_channels, self.out_channels = like.in_channels, like.out_channels
        self.kernel_size, self.stride, self.dilation = like.kernel_size, like.stride, like.dilation
        self.padding, self.padding_mode, self.groups = like.padding, like.padding_mode, 1
        self.error: float | None = None
        for stage in stages[:-1]:
            self.add_module(stage.name, self._convolution(stage, factory, bias=False))
        for weight in self.parameters():
            nn.init.kaiming_uniform_(weight, nonlinearity="linear")
        last = self._convolution(stages[-1], factory, bias=like.bias is not None)
        self.add_module(stages[-1].name, last)

    def _convolution(self, stage: Stage, factory: dict[str, Any], *, bias: bool) -> nn.Module:
        named = isinstance(self.padding, str)
        padding = (0, 0) if named else self.padding
        own = stage.geometry(
            Geometry(stride=self.stride, padding=(*padding, *padding), dilation=self.dilation)
        )
        return nn.Conv2d(
            stage.shape[1] * stage.groups,
            stage.shape[0],
            stage.shape[2:],
            own.stride,
            self.padding if named else own.padding[:2],
            own.dilation,
            stage.groups,
            bias,
            self.padding_mode,
            **factory,
        )

    @property
    def structure(self) -> dict[str, Any]:
        """Arguments that, beside those of a `torch.nn.Conv2d`, make such a layer again."""
        return {}

    @classmethod
    def arguments(cls, conv: nn.Conv2d, config: Any) -> dict[str, Any]:
        """Arguments, beside those of ``conv``, for what ``config`` asks."""
        return {}

    @classmethod
    def fresh(cls, conv: nn.Conv2d, config: Method) -> Self:
        """A chain with the geometry of ``conv`` and first weights of its own.

        Raises
        ------
        MethodError
            ``config`` asks for an error, which depends on weights.
        """
        error = getattr(config, "error", None)
        if error is not None:
            raise MethodError(f"error is {error}; allowed for a layer with first weights of its own: a rank")
        options = conv_options(conv) | cls.arguments(conv, config)
        return stand_for(cls(**options, **factory_of(conv)), conv)

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, config: Method | None = None) -> Self:
        """The chain nearest to ``conv``, by ``config`` of the class that this layer's ``config`` names.

        Raises
        ------
        MethodError
            ``conv`` cannot be approximated so.
        """
        if config is None:
            config = cls.config()
        if type(config) is not cls.config:
            raise MethodError(f"{config!r} is no config of {cls.__name__}; allowed: fc.{cls.config.__name__}")
        weight = weight_of(conv, nn.Conv2d)
        try:
            chain = chain_of(weight, config)
        except ValueError as refused:
            raise MethodError(str(refused)) from None
        made = cls.__new__(cls)
        ChainConv2d.__init__(made, conv, chain.stages, factory_of(conv))
        made.error = chain.error
        with torch.no_grad():
            for stage, factor in zip(chain.stages, chain.weights, strict=True):
                made.get_submodule(stage.name).weight.copy_(torch.from_numpy(factor))
        return stand_for(made, conv)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve ``input``, stage by stage."""
        x = input
        for stage in self.children():
            x = stage(x)
        return x

    def extra_repr(self) -> str:
        """What the layer starts from, if it started from another."""
        return "" if self.error is None else f"error={self.error:.3g}"


def shape_of(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """Of the weight of a ``conv`` of one group: (o, c, kh, kw)."""
    return (conv.out_channels, conv.in_channels, *conv.kernel_size)
