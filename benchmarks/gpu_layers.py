"""Layers to measure on a GPU as PyTorch modules, and products of signs; the rival of each is PyTorch in FP32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from tvm_fastconv.train.layers import DepthwiseSeparableConv2d, FixedStencilConv2d

BATCH = 32


class LastChannels(nn.Module):
    """A layer whose data lie channels last, as in PyTorch's ``channels_last``: nothing has to be turned."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (n, h, w, c) to (n, oh, ow, o)."""
        return self.layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@dataclass(frozen=True, kw_only=True)
class GpuLayer:
    """A layer over a square plane, ``asked`` to be so many times faster than PyTorch."""

    kind: str
    channels: int
    outputs: int
    size: int
    stride: int = 1
    batch: int = BATCH
    asked: float = 1.5

    @property
    def name(self) -> str:
        """For example ``separable 128-128 56x56``."""
        stride = f" /{self.stride}" if self.stride > 1 else ""
        batch = f" batch {self.batch}" if self.batch != BATCH else ""
        return f"{self.kind} {self.channels}-{self.outputs} {self.size}x{self.size}{stride}{batch}"

    def make(self) -> tuple[nn.Module, torch.Tensor]:
        """The layer with a ReLU behind, and its input."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return self._module().eval(), torch.randn(self.batch, self.channels, self.size, self.size)

    def _module(self) -> nn.Module:
        if self.kind == "stencils":
            return nn.Sequential(FixedStencilConv2d(self.channels, self.outputs, 3, padding=1), nn.ReLU())
        if self.kind == "separable":
            made = DepthwiseSeparableConv2d(self.channels, self.outputs, 3, self.stride, 1)
            return nn.Sequential(made, nn.ReLU())
        return nn.Sequential(nn.Conv2d(self.channels, self.outputs, 3, self.stride, 1), nn.ReLU())


LAYERS = (
    GpuLayer(kind="separable", channels=32, outputs=64, size=112),
    GpuLayer(kind="separable", channels=64, outputs=128, size=112, stride=2),
    GpuLayer(kind="separable", channels=128, outputs=128, size=56),
    GpuLayer(kind="separable", channels=256, outputs=256, size=28),
    GpuLayer(kind="separable", channels=512, outputs=512, size=14),
    GpuLayer(kind="separable", channels=1024, outputs=1024, size=7),
    GpuLayer(kind="stencils", channels=64, outputs=128, size=56),
    GpuLayer(kind="stencils", channels=128, outputs=256, size=28),
    GpuLayer(kind="dense", channels=64, outputs=64, size=56, asked=0),
    GpuLayer(kind="dense", channels=128, outputs=128, size=28, asked=0),
    GpuLayer(kind="dense", channels=256, outputs=256, size=14, asked=0),
    GpuLayer(kind="dense", channels=512, outputs=512, size=7, asked=0),
)

RESNET18 = (
    (64, 64, 56, 1), (64, 128, 56, 2), (128, 128, 28, 1), (128, 256, 28, 2), (256, 256, 14, 1), (256, 512, 14, 2),
    (512, 512, 7, 1),
)  # fmt: skip
"""Channels, outputs, side and stride of its 3×3 convolutions."""

TF32_LAYERS = tuple(
    GpuLayer(kind="dense", channels=c, outputs=o, size=size, stride=stride, batch=batch, asked=0)
    for batch in (1, BATCH)
    for c, o, size, stride in RESNET18
)
"""Measured in TF32, beside PyTorch in TF32."""

BINARY_LAYERS = ((64, 56), (128, 28), (256, 14), (512, 7))
"""Channels and side of the binary 3×3 convolutions of a ResNet-18."""

PRODUCTS = {1024: 1.5, 2048: 2.5, 4096: 3.5, 8192: 3.5}
"""Side of a product of signs to how many times faster than cuBLAS it is asked to be, its operands packed."""

NETWORKS = (
    ("resnet18", 1, "resnet18", 1.5),
    ("lcnn_accurate_alexnet", 1, "alexnet", 1.5),
    ("lcnn_accurate_alexnet", 32, "alexnet", 1.5),
    ("bireal18", 1, "resnet18", 0.0),
    ("bireal18", 32, "resnet18", 0.0),
    ("mobilenet_v2", 1, "mobilenet_v2", 0.0),
    ("mobilenet_v2", 32, "mobilenet_v2", 0.0),
)
"""(network, batch, the dense network of torchvision beside it, how many times faster than eager it is asked to be)"""
