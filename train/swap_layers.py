"""Put other layers in the place of those of a model, wherever it holds them."""

from collections.abc import Iterator, Mapping

from torch import nn

from tvm_fastconv.errors import MethodError

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)


def swap_layers(model: nn.Module, made: Mapping[nn.Module, nn.Module]) -> None:
    """Replace the keys of ``made`` by its values, under every name that ``model`` has for them; hooks move along."""
    for layer, other in made.items():
        for name in _HOOKS:
            setattr(other, name, getattr(layer, name))  # the handles remove from these very dictionaries
    for part in list(model.modules()):
        for name, child in part._modules.items():
            if child in made:
                part._modules[name] = made[child]


def tie_parameters(first: nn.Module, other: nn.Module) -> None:
    """Let ``other`` have the parameters and buffers of ``first``, a layer of the same weight, but for its own bias."""
    for name, value in [*first.named_parameters(), *first.named_buffers()]:
        parent, _, leaf = name.rpartition(".")
        if leaf != "bias":
            owner = other.get_submodule(parent)
            (owner._parameters if isinstance(value, nn.Parameter) else owner._buffers)[leaf] = value


def shared_weights(model: nn.Module) -> Iterator[list[tuple[str, nn.Module]]]:
    """Modules, with their names, whose parameter ``weight`` is one and the same."""
    owners: dict[nn.Parameter, list[tuple[str, nn.Module]]] = {}
    for name, part in model.named_modules():
        for parameter in part._parameters.values():
            if parameter is not None:
                owners.setdefault(parameter, []).append((name, part))
    yield from (parts for parts in owners.values() if len(parts) > 1)


def check_shared(model: nn.Module, made: Mapping[nn.Module, object]) -> list[list[nn.Module]]:
    """Groups of layers in ``made`` with one weight in common.

    Raises
    ------
    MethodError
        One of a group is to be swapped and another is not, or by another config.
    """
    groups = []
    for parts in shared_weights(model):
        swapped = [(name, made[part]) for name, part in parts if part in made]
        if not swapped:
            continue
        if len(swapped) < len(parts) or any(config != swapped[0][1] for _, config in swapped):
            names = ", ".join(repr(name) for name, _ in parts)
            raise MethodError(f"layers {names} share a weight; allowed: one config for all of them")
        groups.append([part for _, part in parts])
    return groups
