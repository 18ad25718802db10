"""The structure of a compressed model as plain data, and back: what a checkpoint needs beside the state."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from tvm_fastconv.errors import ModelError

from . import layers
from .layers.binary_layers import BinaryWeights
from .layers.chain_conv2d import ChainConv2d
from .layers.dense_layers import conv_options, factory_of, linear_options
from .layers.lookup_layers import LookupLayer
from .swap_layers import swap_layers

COMPRESSED = (ChainConv2d, LookupLayer, BinaryWeights)
"""What a layer that was compressed is one of; its parts are no layers of their own."""

LAYERS: dict[str, Any] = {name: getattr(layers, name) for name in layers.__all__}
"""The classes that a structure may name."""

Structure = dict[str, dict[str, Any]]
"""Layer name to the name of its class, ``layer``, and what that is built with beside the dense layer's arguments."""


def structure_of(model: nn.Module) -> Structure:
    """The structure of every compressed layer of ``model``, as numbers and texts in dictionaries and lists."""
    return {
        name: {"layer": type(part).__name__, **part.structure}
        for name, part in model.named_modules()
        if isinstance(part, COMPRESSED)
    }


def restructure_(model: nn.Module, structure: Mapping[str, Mapping[str, Any]]) -> None:
    """Give ``model``, dense, layers of this structure in place, with first weights of their own.

    Raises
    ------
    ModelError
        ``structure`` is not of such a model.
    """
    made: dict[nn.Module, nn.Module] = {}
    for name, entry in structure.items():
        try:
            dense = model.get_submodule(name)
            options = linear_options(dense) if isinstance(dense, nn.Linear) else conv_options(dense)
            arguments = {key: value for key, value in entry.items() if key != "layer"}
            build = LAYERS[entry["layer"]]
            made[dense] = build(**options, **arguments, **factory_of(dense))
        except (AttributeError, TypeError, KeyError) as error:
            raise ModelError(f"layer {name!r} cannot be {dict(entry)}: {error}") from None
    swap_layers(model, made)
