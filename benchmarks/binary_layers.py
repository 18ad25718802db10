"""Networks of one or two binary layers, as a PyTorch module and as OpenVINO's binary operators."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from .bench_conv2d import Layer
from .openvino_binary import BinaryNetwork

CONVS = ("first", "second")  # names of the layers


def make_layers(layer: Layer, count: int) -> tuple[Any, tuple[Any, ...]]:
    """``count`` binary layers, each behind a sign, and their input."""
    import torch

    from .networks import SEED

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        modules = OrderedDict()
        for index, name in enumerate(CONVS[:count]):
            modules[f"sign_{name}"] = _sign(shift=float(index))
            modules[name] = _binary_conv(layer)
        model = torch.nn.Sequential(modules).eval()
        return model, (torch.randn(1, layer.channels, layer.size, layer.size),)


def _sign(shift: float) -> Any:
    """Sums of ±1 over an even number of channels are even: behind a layer, a shift by 1 keeps the sign from 0."""
    import torch

    class Sign(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sign(x + shift) if shift else torch.sign(x)

    return Sign()


def _binary_conv(layer: Layer) -> Any:
    import torch

    conv = torch.nn.Conv2d(layer.channels, layer.outputs, layer.kernel, padding=layer.kernel // 2, bias=False)
    conv.weight.data.sign_()
    return conv


def build_rival(module: Any, data: Any, threads: int, profiled: bool = False) -> BinaryNetwork:
    """The same network for OpenVINO.

    Raises
    ------
    RuntimeError
        OpenVINO does not run its fast kernel.
    """
    weights = [layer.weight.detach().numpy() for name, layer in module.named_children() if name in CONVS]
    thresholds = [-float(index) for index in range(len(weights))]
    inspected = BinaryNetwork(weights, thresholds, data.numpy(), threads=threads, profiled=True)
    if slow := [name for name in inspected.implementations() if not name.startswith("jit")]:
        raise RuntimeError(f"OpenVINO runs BinaryConvolution as {slow[0]}")
    if profiled:
        return inspected
    return BinaryNetwork(weights, thresholds, data.numpy(), threads=threads)
