"""What is learned of a model by running it on examples: what layers get, and what batch norms see."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tvm_fastconv.errors import InputError

Calibration: TypeAlias = torch.Tensor | Iterable[torch.Tensor | tuple[torch.Tensor, ...] | list[torch.Tensor]]
"""One batch of inputs, or batches as a data loader yields them: inputs, or tuples and lists that begin with them."""

SAMPLE = 1 << 18
"""Values kept of what a layer gets: a hundred for each of the finest steps, 2^8 levels of ten channels each."""


def batches_of(calibration: Calibration, model: nn.Module) -> list[torch.Tensor]:
    """The inputs of all batches, where the parameters of ``model`` are.

    Raises
    ------
    InputError
        There is none, or one is no tensor.
    """
    where = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    given = [calibration] if isinstance(calibration, torch.Tensor) else list(calibration)
    batches = [batch[0] if isinstance(batch, tuple | list) and batch else batch for batch in given]
    for number, batch in enumerate(batches):
        if not isinstance(batch, torch.Tensor) or not batch.numel():
            raise InputError(
                f"batch {number} of the calibration is {_kind(batch)}; allowed: tensors with values, or tuples that "
                "begin with one"
            )
    if not batches:
        raise InputError("the calibration has no batches; allowed: one or more")
    return [batch.to(where) for batch in batches]


def _kind(value: object) -> str:
    return (
        f"a tensor of shape {tuple(value.shape)}"
        if isinstance(value, torch.Tensor)
        else f"a {type(value).__name__}"
    )


@torch.no_grad()
def inputs_of(
    model: nn.Module, layers: Mapping[str, nn.Module], batch: torch.Tensor, *, by_batch: bool = False
) -> dict[str, torch.Tensor]:
    """A sample of what each of ``layers`` gets from ``batch``, as far as ``model`` in eval mode calls it.

    With ``by_batch`` batch norms normalize by the batch, as in training: a model that is not trained yet has no
    statistics of its own.
    """
    names = {layer: name for name, layer in layers.items()}
    found: dict[str, torch.Tensor] = {}

    def see(layer: nn.Module, args: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor]) -> None:
        x = args[0] if args else named["input"]
        rows = max(1, SAMPLE * len(x) // x.numel())
        found.setdefault(names[layer], x[:rows].clone())

    with evaluated(model), ExitStack() as stack:
        for layer in names:
            stack.callback(layer.register_forward_pre_hook(see, with_kwargs=True).remove)
        if by_batch:
            norms = [part for part in model.modules() if isinstance(part, _BatchNorm)]
            stack.enter_context(_normalizing_by_batch(norms, keep=False))
        model(batch)
    return found


@contextmanager
def _normalizing_by_batch(norms: Collection[_BatchNorm], *, keep: bool) -> Iterator[None]:
    """Let ``norms`` normalize by the batch, and average over batches; statistics stay as they were unless ``keep``.

    Raises
    ------
    InputError
        A batch has one value per channel somewhere, which has no variance.
    """
    before = {
        norm: (norm.momentum, norm.training, {name: each.clone() for name, each in norm.named_buffers()})
        for norm in norms
    }
    done = False
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # an average over all batches
            norm.training = True
        yield
        done = True
    except ValueError as error:
        raise InputError(f"the calibration has batches that are too small: {error}") from None
    finally:
        for norm, (momentum, training, statistics) in before.items():
            norm.momentum, norm.training = momentum, training
            if not (done and keep):
                for name, value in statistics.items():
                    norm.get_buffer(name).copy_(value)


@torch.no_grad()
def reestimate_batch_norms(
    model: nn.Module, changed: Collection[nn.Module], batches: list[torch.Tensor]
) -> list[_BatchNorm]:
    """Let batch norms that run behind one of the ``changed`` layers average over ``batches``; returns them.

    Each normalizes by the batch meanwhile, so that those behind it see what they will see. All else is in eval mode.
    If an error is raised, their statistics are what they were.

    Raises
    ------
    InputError
        A batch has one value per channel somewhere, which has no variance.
    """
    with evaluated(model):
        norms = _norms_behind(model, changed, batches[0])
        with _normalizing_by_batch(norms, keep=True):
            for batch in batches:
                model(batch)
    return norms


def _norms_behind(model: nn.Module, changed: Collection[nn.Module], batch: torch.Tensor) -> list[_BatchNorm]:
    """The batch norms with running statistics that run after one of ``changed`` has."""
    ran: dict[nn.Module, None] = {}
    with ExitStack() as stack:
        norms = [
            part for part in model.modules() if isinstance(part, _BatchNorm) and part.track_running_stats
        ]
        for part in (*changed, *norms):
            handle = part.register_forward_pre_hook(lambda part, _args: ran.setdefault(part))
            stack.callback(handle.remove)
        model(batch)
    order = list(ran)
    first = next((place for place, part in enumerate(order) if part in changed), len(order))
    return [part for part in order[first:] if isinstance(part, _BatchNorm)]


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Every part of ``model`` in eval mode, and behind it as it was."""
    before = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training
