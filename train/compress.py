"""Swap the layers of any model for trainable ones that are smaller, in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tvm_fastconv.configs import (
    CP,
    METHODS,
    Bitserial,
    Dense,
    DepthwiseSeparable,
    FixedStencil,
    Lookup,
    Method,
    SpatialSeparable,
    Tucker,
)
from tvm_fastconv.decompose.factor_chains import no_use_for_factors
from tvm_fastconv.errors import MethodError
from tvm_fastconv.method_patterns import Methods, resolve_methods

from . import layers as trainable
from .calibration import Calibration, batches_of, inputs_of, reestimate_batch_norms
from .layers.chain_conv2d import ChainConv2d
from .layers.dense_layers import is_plain
from .layers.sparse_weights import SparseWeights
from .structure import COMPRESSED
from .swap_layers import check_shared, swap_layers, tie_parameters

CHAIN_LAYERS: dict[type, type[ChainConv2d]] = {
    CP: trainable.CPConv2d,
    Tucker: trainable.TuckerConv2d,
    SpatialSeparable: trainable.SpatialSeparableConv2d,
    DepthwiseSeparable: trainable.DepthwiseSeparableConv2d,
    FixedStencil: trainable.FixedStencilConv2d,
}

_NAMES = {config: name for name, config in METHODS.items()}


@dataclass(frozen=True, kw_only=True)
class CompressedLayer:
    """What became of one layer that was asked for.

    Attributes
    ----------
    name : str
        Its module path.
    method : str
        As reports spell it; ``dense`` for a layer that was left as it is.
    error : float
        Of the weight, relative (Frobenius norm).
    reason : str
        Why it was left as it is, if so.
    """

    name: str
    method: str
    error: float = 0.0
    reason: str = ""


def compress_(
    model: nn.Module,
    methods: Methods,
    calibration: Calibration | None = None,
    *,
    fresh: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> list[CompressedLayer]:
    """Swap convolutions and linear layers of ``model``, in place, for trainable layers of fewer operations.

    Each starts from the function of the layer that it replaces, as far as its structure allows. Train ``model`` on in
    any loop, with `penalty` added to the loss, or compile it as it is: what comes of it is recognised exactly. Devices,
    dtypes, hooks, ``requires_grad``, train or eval mode and shared layers stay what they were. An optimizer that was
    made before holds the old parameters. Nothing is changed if an error is raised.

    Parameters
    ----------
    model
        Any module that holds the layers. Its batch norms become ready for the new ones if there is ``calibration``.
    methods : config, or mapping from shell-style pattern over layer names to config
        As `compile` takes them. Layers that no pattern names stay, and so do those that have no use for their config.
    calibration
        Inputs like those to come: a tensor, or batches as a data loader yields them. Batch norms that run behind a
        swapped layer are estimated again from all of them, and steps of activations are fitted to the first.
    fresh
        Give the new layers first weights of their own, for a model that is not trained yet. A density is then what
        training is to reach, see `train.schedules`.
    progress
        Called with one line for each layer before it is decomposed.

    Returns
    -------
    list of CompressedLayer
        One for each layer that was named.

    Raises
    ------
    MethodError
        A pattern matches no layer, or a layer cannot be what was asked; the message names it.
    InputError
        The calibration has no inputs.
    """
    found = _layers(model)
    asked = {
        name: config
        for name, config in resolve_methods(methods, found).items()
        if not isinstance(config, Dense)
    }
    reasons = {name: _left(found[name], config) for name, config in asked.items()}
    chosen = {name: found[name] for name in asked if reasons[name] is None}
    groups = check_shared(model, {layer: asked[name] for name, layer in chosen.items()})
    batches = None if calibration is None else batches_of(calibration, model)
    fitted = {name: layer for name, layer in chosen.items() if isinstance(asked[name], Bitserial)}
    inputs = _inputs(model, fitted, batches, fresh)
    made: dict[nn.Module, Any] = {}
    for number, (name, layer) in enumerate(chosen.items(), 1):
        progress(f"layer {number} of {len(chosen)}: {name}")
        made[layer] = _made(name, layer, asked[name], inputs.get(name), fresh)
    for first, *others in groups:
        for layer in others:
            tie_parameters(made[first], made[layer])
    swap_layers(model, made)
    if batches is not None and made:
        try:
            reestimate_batch_norms(model, list(made.values()), batches)
        except BaseException:
            swap_layers(model, {other: layer for layer, other in made.items()})
            raise
    return [
        CompressedLayer(name=name, method=_NAMES[type(config)], error=made[found[name]].error)
        if name in chosen
        else CompressedLayer(name=name, method="dense", reason=f"left as it is: {reasons[name]}")
        for name, config in asked.items()
    ]


def penalty(model: nn.Module) -> torch.Tensor:
    """What the loss adds for the layers of ``model`` that are to become sparse: their L1 penalties, summed."""
    parts = [part.regularization() for part in model.modules() if isinstance(part, SparseWeights)]
    where = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return torch.stack(parts).sum() if parts else torch.zeros((), device=where)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """Layers that methods may name, each once."""
    if isinstance(model, (nn.Linear, nn.modules.conv._ConvNd)):
        raise MethodError(
            f"the model is itself a layer, {type(model).__name__}; allowed: a module that holds layers"
        )
    closed = (*COMPRESSED, nn.MultiheadAttention)  # the latter reads the weights of its parts itself
    inside = {part for layer in model.modules() if isinstance(layer, closed) for part in layer.modules()}
    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, (nn.Linear, nn.modules.conv._ConvNd)) and part not in inside
    }


def _left(layer: nn.Module, config: Method) -> str | None:
    """Why ``layer`` stays what it is, if so."""
    kind = nn.Linear if _is_linear(layer) else nn.Conv2d
    if not is_plain(layer, kind):
        return f"it is a {type(layer).__name__}"
    if isinstance(config, Lookup) and config.dictionary_size is None:
        return "no dictionary size is asked for"
    if type(config) not in CHAIN_LAYERS:
        return None
    if kind is nn.Linear:
        return "it is a linear layer"
    return no_use_for_factors(config, layer.kernel_size, layer.groups)


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear)


def _inputs(
    model: nn.Module, layers: Mapping[str, nn.Module], batches: list[torch.Tensor] | None, fresh: bool
) -> dict[str, torch.Tensor]:
    """What binary layers get."""
    if batches is None or not layers:
        return {}
    found = inputs_of(model, layers, batches[0], by_batch=fresh)
    if unseen := [name for name in layers if name not in found]:
        raise MethodError(
            f"layer {unseen[0]!r} does not run in a forward pass of the model: nothing to fit it to"
        )
    return found


def _made(name: str, layer: nn.Module, config: Method, inputs: torch.Tensor | None, fresh: bool) -> nn.Module:
    try:
        if isinstance(config, Bitserial):
            fit = (
                trainable.BinaryLinear.from_linear if _is_linear(layer) else trainable.BinaryConv2d.from_conv
            )
            return fit(layer, config, inputs=inputs)
        if _is_linear(layer):
            linear: Any = trainable.LookupLinear
            return linear.fresh(layer, config) if fresh else linear.from_linear(layer, config)
        conv: Any = CHAIN_LAYERS.get(type(config), trainable.LookupConv2d)
        return conv.fresh(layer, config) if fresh else conv.from_conv(layer, config)
    except MethodError as error:
        raise MethodError(f"layer {name!r} cannot be as asked: {error}") from None
