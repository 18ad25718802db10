"""What every layer here takes over from the dense layer that it stands for."""

from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from tvm_fastconv.errors import MethodError

Layer = TypeVar("Layer", bound=nn.Module)

_FACTORY = ("device", "dtype")


def conv_like(*args: Any, **kwargs: Any) -> tuple[nn.Conv2d, dict[str, Any]]:
    """A convolution without weights, checked by PyTorch, and where its parameters are to lie.

    Parameters
    ----------
    args, kwargs
        Of `torch.nn.Conv2d`; ``device`` and ``dtype`` by name.
    """
    factory = {name: kwargs.pop(name) for name in _FACTORY if name in kwargs}
    return nn.Conv2d(*args, **kwargs, device="meta"), factory


def factory_of(layer: nn.Conv2d | nn.Linear) -> dict[str, Any]:
    """Where the parameters of ``layer`` lie, and their dtype."""
    return {name: getattr(layer.weight, name) for name in _FACTORY}


def conv_options(conv: nn.Conv2d) -> dict[str, Any]:
    """Arguments of `torch.nn.Conv2d` that make such a convolution again."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    options = {name: getattr(conv, name) for name in (*names, "padding_mode")}
    return {**options, "bias": conv.bias is not None}


def linear_options(linear: nn.Linear) -> dict[str, Any]:
    """Arguments of `torch.nn.Linear` that make such a layer again."""
    sizes = {name: getattr(linear, name) for name in ("in_features", "out_features")}
    return {**sizes, "bias": linear.bias is not None}


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether ``layer`` computes what a ``kind`` does: it is one, and nothing of its forward pass is its own."""
    own = type(layer)
    known = isinstance(layer, kind) and own.forward is kind.forward
    return known and getattr(own, "_conv_forward", None) is getattr(kind, "_conv_forward", None)


def weight_of(layer: nn.Module, kind: type[nn.Module]) -> np.ndarray:
    """The weight of ``layer``, float32.

    Raises
    ------
    MethodError
        It is no plain ``kind``, or its weight is computed from others at every step.
    """
    if not is_plain(layer, kind):
        raise MethodError(f"it is a {type(layer).__name__}; allowed: a torch.nn.{kind.__name__}")
    if "weight" not in layer._parameters:
        raise MethodError(
            "its weight is computed from other parameters; make it one of its own first, with "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )
    weight = layer.weight.detach()
    if weight.is_meta:
        raise MethodError("its weight is on the meta device, without values")
    return weight.to("cpu", torch.float32).numpy()


def stand_for(made: Layer, layer: nn.Conv2d | nn.Linear) -> Layer:
    """Let ``made`` be trained as far as ``layer`` was, and start from its bias."""
    made.train(layer.training)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            source = layer.weight
            if name.rpartition(".")[2] == "bias" and layer.bias is not None:
                parameter.copy_(layer.bias)
                source = layer.bias
            parameter.requires_grad_(source.requires_grad)
    return made
