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


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet18": (_from_torchvision("resnet18"), 224),
    "alexnet": (_from_torchvision("alexnet"), 224),
    "squeezenet1_1": (_from_torchvision("squeezenet1_1"), 224),
    "mobilenet_v2": (_from_torchvision("mobilenet_v2"), 224),
    "all_cnn_c": (all_cnn_c, 32),
}
"""Name to (constructor, height and width of its images)."""


def present(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the networks that can be built here; says which cannot, and why."""
    names = tuple(names)
    if importlib.util.find_spec("torchvision") is not None:
        return names
    missing = [name for name in names if NETWORKS[name][0] is not all_cnn_c]
    print(f"left out, since torchvision is not installed: {', '.join(missing)}", file=sys.stderr)
    return tuple(name for name in names if name not in missing)


def make_network(name: str, batch: int = 1) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Build one of `NETWORKS` in eval mode, with example inputs; the same name gives the same weights every time."""
    construct, size = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        module = construct()
        for layer in module.modules():
            if isinstance(
                layer, nn.Conv2d
            ):  # All-CNN-C has no batch norm: PyTorch's default would fade here too
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        _settle_batch_norm(module, torch.randn(2, 3, size, size))
        return module.eval(), (torch.randn(batch, 3, size, size),)


def _settle_batch_norm(module: nn.Module, images: torch.Tensor) -> None:
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become those of this batch
    with torch.no_grad():
        module.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
