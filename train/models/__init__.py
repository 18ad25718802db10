"""Networks to train, by name; every one is dense as it is built, and methods make it what they ask for."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from tvm_fastconv.errors import ModelError
from tvm_fastconv.method_patterns import Methods

from ..compress import compress_
from .alexnet import AlexNet
from .all_cnn import AllCnn
from .binary_nets import BinaryConvNet, BinaryMlp
from .digits_net import DigitsNet
from .fxnn import Fxnn
from .lenet5 import LeNet5
from .mobilenet_v1 import MobileNetV1
from .presets import PRESETS, preset_methods
from .resnet import ResNet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "digits_net": DigitsNet,
    "lenet5": LeNet5,
    "alexnet": AlexNet,
    "all_cnn_c": AllCnn,
    "wider_all_cnn": partial(AllCnn, plan="wider"),
    "adequately_designed": partial(AllCnn, plan="adequately_designed"),
    "fxnn": Fxnn,
    "binary_mlp": BinaryMlp,
    "binary_conv_net": BinaryConvNet,
    "resnet18": ResNet,
    "resnet34": partial(ResNet, depth=34),
    "bireal18": partial(ResNet, bi_real=True),
    "bireal34": partial(ResNet, depth=34, bi_real=True),
    "mobilenet_v1": MobileNetV1,
}
"""Name to constructor."""

EXAMPLES = 4
"""Images of noise that tell the sign of what binary layers get."""


def make_model(
    name: str,
    *,
    classes: int,
    channels: int,
    size: int,
    methods: Methods | str | None = None,
    **options: Any,
) -> nn.Module:
    """A network with first weights of its own, in training mode.

    Parameters
    ----------
    name
        One of `MODELS`.
    classes, channels, size
        Of the labels and the images, ``size`` pixels high and wide.
    methods
        As `compress_` takes them, or the name of one of `PRESETS`.
    options
        Of the constructor, as ``width``.

    Raises
    ------
    ModelError
        There is no such network, or it cannot be built so.
    MethodError
        There is no such preset, or a layer cannot be what was asked.
    """
    if name not in MODELS:
        raise ModelError(f"network {name!r} is not known; known are {', '.join(MODELS)}")
    build = MODELS[name]
    known = inspect.signature(build).parameters
    given = {"classes": classes, "channels": channels, "size": size}
    options = {key: value for key, value in given.items() if key in known} | options
    if unknown := [key for key in options if key not in known]:
        raise ModelError(f"network {name!r} has no option {unknown[0]!r}; it has {', '.join(known)}")
    try:
        model = build(**options)
    except (ValueError, KeyError, TypeError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise ModelError(f"network {name!r} cannot be built so: {error}") from None
    if not all(parameter.numel() for parameter in model.parameters()):
        raise ModelError(f"network {name!r} cannot be built so: it has layers without inputs or outputs")
    if methods is None:
        return model
    if isinstance(methods, str):
        methods = preset_methods(methods, model)
    noise = torch.randn(EXAMPLES, channels, size, size, generator=torch.Generator().manual_seed(0))
    compress_(model, methods, noise, fresh=True)
    return model


__all__ = ["MODELS", "PRESETS", "make_model", "preset_methods"]
