"""Networks to measure, with weights that keep their activations alive.

Speed depends on values only through denormals, but those cost up to a hundred times: an untrained MobileNetV2 in eval
mode fades to 1e-9 by its last layer. So batch norm gets the statistics of one random batch, as training would do.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterable

import torch
from torch import nn

from tvm_fastconv.train.layers import BinaryConv2d

SEED = 0


def _torchvision_models() -> types.ModuleType:
    """``torchvision.models``, also beside a build of PyTorch that torchvision's compiled operators do not match.

    Without those operators, ``import torchvision`` fails while it describes their shapes; the networks here use none.
    """
    try:
        from torchvision import models
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        described = "torchvision._meta_registrations"
        sys.modules[described] = types.ModuleType(described)
        from torchvision import models
    return models


def _from_torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: getattr(_torchvision_models(), name)(weights=None)


def all_cnn_c(classes: int = 10) -> nn.Module:
    """All-CNN-C for 32x32 images: convolutions only, stride instead of pooling (Springenberg et al., 2015)."""
    plan = [  # out channels, kernel, stride, padding
        *((96, 3, 1, 1), (96, 3, 1, 1), (96, 3, 2, 1)),
        *((192, 3, 1, 1), (192, 3, 1, 1), (192, 3, 2, 1)),
        *((192, 3, 1, 0), (192, 1, 1, 0), (classes, 1, 1, 0)),
    ]
    layers: list[nn.Module] = []
    channels = 3
    for out, kernel, stride, padding in plan:
        layers += [nn.Conv2d(channels, out, kernel, stride, padding), nn.ReLU()]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class _BiRealBlock(nn.Module):
    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = BinaryConv2d(channels, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            parts = (nn.AvgPool2d(2), nn.Conv2d(channels, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
            self.shortcut = nn.Sequential(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) + self.shortcut(x)


def bireal18() -> nn.Module:
    """ResNet-18 with a shortcut around each of its 16 binary 3×3 convolutions (Liu et al., arXiv:1808.00278).

    The first layer, the 1×1 convolutions of the shortcuts and the classifier stay float.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for outputs in (64, 128, 256, 512):
        for _ in range(4):
            layers.append(_BiRealBlock(channels, outputs, 1 if outputs == channels else 2))
            channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet18": (_from_torchvision("resnet18"), 224),
    "alexnet": (_from_torchvision("alexnet"), 224),
    "squeezenet1_1": (_from_torchvision("squeezenet1_1"), 224),
    "mobilenet_v2": (_from_torchvision("mobilenet_v2"), 224),
    "densenet121": (_from_torchvision("densenet121"), 224),
    "all_cnn_c": (all_cnn_c, 32),
}
"""Name to (constructor, height and width of its images)."""

BINARY_NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {"bireal18": (bireal18, 224)}
"""The same for networks whose rivals run ±1 as float32: none of them has a path for binary convolutions."""

ALL_NETWORKS = NETWORKS | BINARY_NETWORKS


def present(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the networks that can be built here; says which cannot, and why."""
    names = tuple(names)
    if importlib.util.find_spec("torchvision") is not None:
        return names
    own = [name for name, (construct, _) in ALL_NETWORKS.items() if construct in (all_cnn_c, bireal18)]
    missing = [name for name in names if name not in own]
    print(f"left out, since torchvision is not installed: {', '.join(missing)}", file=sys.stderr)
    return tuple(name for name in names if name not in missing)


def make_network(name: str, batch: int = 1) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Build one of `ALL_NETWORKS` in eval mode, with example inputs: the same ones every time."""
    construct, size = ALL_NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        module = construct()
        for layer in module.modules():
            # All-CNN-C has no batch norm: PyTorch's default would fade here too.
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        images = [torch.randn(count, 3, size, size) for count in (2, batch)]
        if name in BINARY_NETWORKS:
            _make_exact(module, images)
        settle_batch_norm(module, images[0])
        return module.eval(), (images[1],)


def _make_exact(module: nn.Module, images: list[torch.Tensor]) -> None:
    """Round images and float weights to fractions whose products add up exactly, in any order.

    A random binary network is chaotic: a sum that is 1e-7 off turns a sign here and there, and each turned sign a
    few in the next layer, until half of the output is another. Engines could not be checked against each other.
    """
    for image in images:
        image.mul_(16).round_().div_(16)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and not isinstance(layer, BinaryConv2d):
            layer.weight.data.mul_(64).round_().div_(64)


def settle_batch_norm(module: nn.Module, images: torch.Tensor) -> None:
    """Make the statistics of these images those that the module's batch norms run with; leaves it in training mode."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become those of this batch
    with torch.no_grad():
        module.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
