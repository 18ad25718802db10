"""Networks for 32×32 images and 100 classes, with their 3×3 convolutions in four forms.

All-CNN-C (Springenberg et al., arXiv:1412.6806), a wider one, and one designed for separable convolutions. Batch norm
and ReLU follow every convolution, or the whole of what takes its place. Planes are padded to keep their size before
the stride.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tvm_fastconv.train.models import ConvBlock
from tvm_fastconv.train.separable_conv2d import CPConv2d, DepthwiseSeparableConv2d, SpatialConv2d

from .networks import SEED, settle_batch_norm

CLASSES = 100
SIZE = 32
"""Height and width of the images."""


@dataclass(frozen=True)
class Layer:
    """A convolution in a plan. A ``separable`` one is depthwise separable in every form of the network."""

    outputs: int
    kernel: int = 3
    stride: int = 1
    separable: bool = False


PLANS: dict[str, tuple[Layer, ...]] = {
    "all_cnn_c": (
        *(Layer(96), Layer(96), Layer(96, stride=2)),
        *(Layer(192), Layer(192), Layer(192, stride=2)),
        *(Layer(192), Layer(192, kernel=1), Layer(CLASSES, kernel=1)),
    ),
    "wider": (
        *(Layer(192), Layer(96, stride=2)),
        *(Layer(384), Layer(128, stride=2)),
        *(Layer(256), Layer(CLASSES, kernel=1)),
    ),
    "adequately_designed": (
        *(Layer(96), Layer(96), Layer(96, stride=2)),
        *(Layer(256, separable=True), Layer(192, stride=2)),
        *(Layer(256, separable=True), Layer(CLASSES, kernel=1)),
    ),
}
"""Name to layers; the mean over the plane stands behind them."""


def _std(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Plain 3×3."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


def _fac(inputs: int, outputs: int, stride: int) -> nn.Module:
    """3×1 to all outputs, then 1×3."""
    return SpatialConv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def _sep(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Depthwise 3×3, then 1×1."""
    return DepthwiseSeparableConv2d(
        inputs, outputs, 3, stride=stride, padding=1, bias=False, activation=False
    )


def _cp(inputs: int, outputs: int, stride: int) -> nn.Module:
    """1×1, depthwise 3×1, depthwise 1×3, 1×1; the rank is half of the smaller channel count."""
    rank = min(inputs, outputs) // 2
    return CPConv2d(inputs, outputs, 3, rank=rank, stride=stride, padding=1, bias=False)


FORMS: dict[str, Callable[[int, int, int], nn.Module]] = {"std": _std, "fac": _fac, "sep": _sep, "cp": _cp}
"""Name to what stands for a 3×3 convolution, by its channels and stride."""


@dataclass(frozen=True)
class SeparableNetwork:
    """One of `PLANS` in one of `FORMS`, which its first convolution does not take."""

    plan: str
    form: str

    @property
    def name(self) -> str:
        """For example ``all_cnn_c sep``."""
        return f"{self.plan} {self.form}"

    def build(self) -> nn.Sequential:
        """``(N, 3, 32, 32)`` to ``(N, 100)``, as PyTorch initializes it."""
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for index, layer in enumerate(PLANS[self.plan], 1):
            conv = self._conv(channels, layer, is_first=index == 1)
            parts[f"block{index}"] = ConvBlock(channels, layer.outputs, conv)
            channels = layer.outputs
        parts.update(average=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
        return nn.Sequential(parts)

    def _conv(self, channels: int, layer: Layer, is_first: bool) -> nn.Module:
        if layer.kernel == 1:
            return nn.Conv2d(channels, layer.outputs, 1, bias=False)
        form = "sep" if layer.separable else "std" if is_first else self.form
        return FORMS[form](channels, layer.outputs, layer.stride)

    def make(self, batch: int = 1) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        """Build it in eval mode, with settled batch norms and an input: the same ones every time."""
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            module = self.build()
            settle_batch_norm(module, torch.randn(2, 3, SIZE, SIZE))
            return module.eval(), (torch.randn(batch, 3, SIZE, SIZE),)


SEPARABLE_NETWORKS = tuple(SeparableNetwork(plan, form) for plan in PLANS for form in FORMS)
