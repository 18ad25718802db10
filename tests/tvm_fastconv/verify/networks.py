"""Small networks of each kind whose outputs jump, and one whose do not."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

INPUT = (2, 3, 12, 12)


class BinaryConv(nn.Conv2d):
    """Weights of ±α per filter, inputs of ±1 (XNOR-Net)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.abs().mean((1, 2, 3), keepdim=True) * torch.sign(self.weight)
        return F.conv2d(torch.where(x >= 0, 1.0, -1.0), weight, padding=self.padding)


class BiRealBlock(nn.Module):
    """A binary layer with a shortcut around it (Bi-Real net)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = BinaryConv(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) + x


class DoReFaConv(nn.Conv2d):
    """Weights of one bit, activations of two, on a grid from 0 to 1 (DoReFa-Net)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels = torch.round(x.clamp(0, 1) * 3) / 3
        weight = self.weight.abs().mean() * torch.sign(self.weight)
        return F.conv2d(levels, weight, padding=self.padding)


class QuantizedConv(nn.Conv2d):
    """Activations and weights of eight bits, as quantization-aware training simulates them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scales = self.weight.detach().abs().amax((1, 2, 3)) / 127
        x = torch.fake_quantize_per_tensor_affine(x, 0.03, 128, 0, 255)
        zero = torch.zeros(len(scales), dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(self.weight, scales, zero, 0, -127, 127)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


def _bi_real() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    return nn.Sequential(
        stem, BiRealBlock(32), BiRealBlock(32), BinaryConv(32, 32, 3), nn.BatchNorm2d(32), *head
    )


def _dorefa() -> nn.Module:
    layers = [nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32)]
    for _ in range(3):
        layers += [DoReFaConv(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3200, 10))


def _quantized() -> nn.Module:
    layers = [QuantizedConv(3, 32, 3, padding=1), nn.ReLU(), QuantizedConv(32, 32, 3), nn.ReLU()]
    return nn.Sequential(*layers, QuantizedConv(32, 32, 1), nn.Flatten(), nn.Linear(3200, 10))


def _dense() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.ReLU6(),
        nn.Conv2d(32, 48, 1), nn.ReLU(), nn.Conv2d(48, 48, 3, padding=1), nn.Hardswish(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48 * 36, 10), nn.Softmax(1),
    )  # fmt: skip


class Uneven(nn.Conv2d):
    """Filters from a millionth to a million times as large as usual."""

    def __init__(self, *args: int, **how: int) -> None:
        super().__init__(*args, **how)
        with torch.no_grad():
            scales = 10.0 ** torch.linspace(-6, 6, self.out_channels)[torch.randperm(self.out_channels)]
            self.weight *= scales[:, None, None, None]
            self.bias *= scales


def _uneven() -> nn.Module:
    """Norms make its channels alike again, so that each of them counts in the end."""
    return nn.Sequential(
        Uneven(3, 32, 3, padding=1), nn.InstanceNorm2d(32, affine=True), nn.ELU(),
        Uneven(32, 32, 3, padding=1), nn.GroupNorm(32, 32), nn.GELU(),
        Uneven(32, 48, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10), nn.LogSoftmax(1),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "bi-real": _bi_real, "dorefa": _dorefa, "quantized": _quantized, "dense": _dense,
    "uneven": _uneven,
}  # fmt: skip


def network(name: str) -> nn.Module:
    """The network ``name``, the same for every call, with batch norms that do something."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = NETWORKS[name]().eval()
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(-0.5, 0.5)
                part.running_var.uniform_(0.5, 2)
                part.weight.data.uniform_(-1.5, 1.5)
                part.bias.data.uniform_(-0.5, 0.5)
    return model


def example() -> torch.Tensor:
    """An input of the networks."""
    return torch.randn(INPUT, generator=torch.Generator().manual_seed(2))
