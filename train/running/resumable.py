"""What must be the same for a training to go on to the end that it would have had."""

from typing import Any

from torch import nn

from tvm_fastconv.errors import TrainError

from ..layers.sparse_weights import SparseWeights
from ..structure import structure_of
from .checkpoint import Checkpoint
from .settings import Settings


def densities_of(model: nn.Module) -> dict[str, float | None]:
    """What the lookups of each layer are to be brought to."""
    return {
        name: part.target_density for name, part in model.named_modules() if isinstance(part, SparseWeights)
    }


def check_resumable(checkpoint: Checkpoint, data: str, settings: Settings, model: nn.Module) -> None:
    """Check that ``checkpoint`` is of such a training, but for the state, which `Checkpoint.load_into` checks.

    Raises
    ------
    TrainError
        It is of another network, other data or other settings.
    """
    if checkpoint.data != data:
        raise TrainError(f"the checkpoint is of {checkpoint.data}, not of {data}")
    _check_same("", checkpoint.settings, settings.as_dict())
    structure = structure_of(model)
    if checkpoint.structure.keys() == structure.keys():  # or the state does not fit
        for layer, asked in structure.items():
            _check_same(f"layer {layer} with ", checkpoint.structure[layer], asked)
    _check_same("density of ", checkpoint.training["densities"], densities_of(model))


def _check_same(where: str, known: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise for the first thing in which what is to be resumed differs from what is asked for."""
    for name in dict.fromkeys((*asked, *known)):
        if known.get(name) != asked.get(name):
            raise TrainError(
                f"the training to resume has {where}{name} {known.get(name)!r}, not {asked.get(name)!r}"
            )
