"""What changes in a network from step to step beside its weights, as a function of how far training is."""

from torch import nn

from ..layers.binary_layers import BinaryWeights
from ..schedules import anneal_density_
from .settings import Settings

INPUTS_FROM, WEIGHTS_FROM = 1 / 3, 2 / 3
"""Shares of the training after which progressive binarization rounds inputs, and weights."""


def advance_(model: nn.Module, settings: Settings, share: float) -> None:
    """Bring densities and quantizers of ``model`` to where they are when ``share`` of the training is over."""
    anneal_density_(model, share)
    for part in model.modules():
        if isinstance(part, BinaryWeights):
            part.quantizes_input = not settings.progressive or share >= INPUTS_FROM
            part.quantizes_weight = not settings.progressive or share >= WEIGHTS_FROM
