"""What changes in a network from step to step beside its weights, as a function of how far training is."""

from torch import nn

from ..layers.binary_layers import BinaryWeights
from ..layers.sparse_weights import SparseWeights
from ..schedules import ANNEALED, anneal_density_
from .settings import Settings

INPUTS_FROM, WEIGHTS_FROM = 1 / 3, 2 / 3
"""Shares of the training after which progressive binarization rounds inputs, and weights."""


def is_settled(model: nn.Module, settings: Settings, share: float) -> bool:
    """Whether ``model`` is what it will be, when ``share`` of the training is over: as sparse, and in bits."""
    sparse = any(isinstance(part, SparseWeights) and part.target_density for part in model.modules())
    return share >= max(ANNEALED * sparse, WEIGHTS_FROM * settings.progressive)


def advance_(model: nn.Module, settings: Settings, share: float) -> None:
    """Bring densities and quantizers of ``model`` to where they are when ``share`` of the training is over."""
    anneal_density_(model, share)
    for part in model.modules():
        if isinstance(part, BinaryWeights):
            part.quantizes_input = not settings.progressive or share >= INPUTS_FROM
            part.quantizes_weight = not settings.progressive or share >= WEIGHTS_FROM
