"""Methods by name, for any network: which config each of its layers gets, from its sizes."""

from collections.abc import Callable, Iterator

from torch import nn

from tvm_fastconv.configs import (
    CP,
    Bitserial,
    Dense,
    DepthwiseSeparable,
    FixedStencil,
    Lookup,
    Method,
    SpatialSeparable,
    Tucker,
)
from tvm_fastconv.errors import MethodError

LCNN_LAYERS = tuple(f"conv{number}.conv" for number in range(1, 8))
LCNN_FAST = ((3, 0.083), (30, 0.034), (30, 0.008), (30, 0.013), (30, 0.027), (512, 0.001), (512, 0.002))
LCNN_ACCURATE = (
    *((3, 0.129), (500, 0.040), (500, 0.029), (500, 0.034)),
    *((30, 0.071), (1024, 0.006), (1024, 0.007)),
)
"""Dictionary sizes of AlexNet's layers in tf-lcnn, and the densities that its training on MNIST reached."""


def _fast(conv: nn.Conv2d) -> Method:
    return Lookup(dictionary_size=max(4, conv.in_channels // 4), density=0.1)


def _accurate(conv: nn.Conv2d) -> Method:
    return Lookup(dictionary_size=max(4, conv.in_channels), density=0.1)


def _cp(conv: nn.Conv2d) -> Method:
    return CP(rank=min(conv.in_channels, conv.out_channels))


def _tucker(conv: nn.Conv2d) -> Method:
    return Tucker(ranks=(max(1, conv.in_channels // 2), max(1, conv.out_channels // 2)))


def _always(config: Method) -> Callable[[nn.Conv2d], Method]:
    return lambda conv: config


PRESETS: dict[str, Callable[[nn.Conv2d], Method]] = {
    "dense": _always(Dense()),
    "lcnn-fast": _fast,
    "lcnn-accurate": _accurate,
    "binary": _always(Bitserial()),
    "2-bit": _always(Bitserial(weight_bits=2, activation_bits=2)),
    "fac": _always(SpatialSeparable()),
    "sep": _always(DepthwiseSeparable()),
    "cp": _cp,
    "tucker": _tucker,
    "fixed": _always(FixedStencil()),
}
"""Name to what each inner layer gets."""


def preset_methods(name: str, model: nn.Module) -> dict[str, Method]:
    """The methods that ``name``, one of `PRESETS`, means for ``model``.

    First and last layer stay dense, and so do depthwise convolutions, and but for bits 1×1 ones and linear layers.
    Networks with AlexNet's layers get the sizes that tf-lcnn published.

    Raises
    ------
    MethodError
        There is no such preset, or no layer that it is for.
    """
    if name not in PRESETS:
        raise MethodError(f"preset {name!r} is not known; known are {', '.join(PRESETS)}")
    if name == "dense":
        return {}
    layers = dict(_inner_layers(model))
    published = {"lcnn-fast": LCNN_FAST, "lcnn-accurate": LCNN_ACCURATE}.get(name)
    if published and {*LCNN_LAYERS} <= {layer for layer, _ in model.named_modules()}:
        sizes = zip(LCNN_LAYERS, published, strict=True)
        return {layer: Lookup(dictionary_size=k, density=density) for layer, (k, density) in sizes}
    suits = _suits_bits if name in ("binary", "2-bit") else _suits_factors
    found = {layer: PRESETS[name](part) for layer, part in layers.items() if suits(part)}
    if not found:
        raise MethodError(f"the network has no inner layer that {name!r} is for")
    return found


def _suits_bits(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or layer.groups == 1


def _suits_factors(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1 and layer.groups == 1


def _inner_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Plain convolutions and linear layers but the first and the last."""
    found = [(name, part) for name, part in model.named_modules() if type(part) in (nn.Conv2d, nn.Linear)]
    yield from found[1:-1]
