"""Networks with lookup convolutions: AlexNet with the dictionaries and densities of tf-lcnn, and ResNet-18."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from .networks import SEED, make_network


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Dictionary sizes and densities of AlexNet's layers, without the last."""

    dictionaries: tuple[int, ...]
    densities: tuple[float, ...]


# The densities are those that training on MNIST reached.
FAST = Preset(
    dictionaries=(3, 30, 30, 30, 30, 512, 512), densities=(0.083, 0.034, 0.008, 0.013, 0.027, 0.001, 0.002)
)
ACCURATE = Preset(
    dictionaries=(3, 500, 500, 500, 30, 1024, 1024),
    densities=(0.129, 0.040, 0.029, 0.034, 0.071, 0.006, 0.007),
)
RESNET_DICTIONARY, RESNET_DENSITY = 64, 0.05


def lookup_conv2d(
    inputs: int, outputs: int, kernel: int, stride: int, padding: int, dictionary: int, density: float
) -> list[nn.Module]:
    """A dictionary, which carries the padding, and a sparse convolution with random coefficients."""
    atoms = nn.Conv2d(inputs, dictionary, 1, padding=padding, bias=False)
    sparse = nn.Conv2d(dictionary, outputs, kernel, stride)
    for conv in (atoms, sparse):
        nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    kept = torch.rand_like(sparse.weight) < density
    sparse.weight.data.mul_(kept).div_(max(kept.float().mean().item(), 1e-6) ** 0.5)
    return [atoms, sparse]


def lcnn_alexnet(preset: Preset) -> nn.Module:
    """AlexNet with lookups in all layers but the last; fully connected layers are convolutions of one pixel."""
    plan = [
        (3, 64, 11, 4, 2),
        (64, 192, 5, 1, 2),
        (192, 384, 3, 1, 1),
        (384, 256, 3, 1, 1),
        (256, 256, 3, 1, 1),
    ]
    plan += [(256, 4096, 6, 1, 0), (4096, 4096, 1, 1, 0)]
    layers: list[nn.Module] = []
    for index, layer in enumerate(plan):
        layers += lookup_conv2d(*layer, preset.dictionaries[index], preset.densities[index])
        layers.append(nn.ReLU())
        if index in (0, 1, 4):
            layers.append(nn.MaxPool2d(3, 2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4096, 1000))


def lcnn_resnet18(dictionary: int = RESNET_DICTIONARY, density: float = RESNET_DENSITY) -> nn.Module:
    """ResNet-18 with lookups in its 3×3 convolutions."""
    module, _ = make_network("resnet18")
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3):
                geometry = (child.in_channels, child.out_channels, 3, child.stride[0], 1)
                lookups = lookup_conv2d(*geometry, dictionary, density)
                lookups[1].bias = None
                setattr(parent, name, nn.Sequential(*lookups))
    return module


LOOKUP_NETWORKS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "lcnn_fast_alexnet": ("alexnet", lambda: lcnn_alexnet(FAST)),
    "lcnn_accurate_alexnet": ("alexnet", lambda: lcnn_alexnet(ACCURATE)),
    "lcnn_resnet18": ("resnet18", lcnn_resnet18),
}
"""Name to (the dense network that rivals run, constructor)."""


def make_lookup_network(name: str, batch: int = 1) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Build one of `LOOKUP_NETWORKS` in eval mode, with its input: the same ones every time."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return LOOKUP_NETWORKS[name][1]().eval(), (torch.randn(batch, 3, 224, 224),)
