"""What changes while a network is trained, beside its weights."""

from torch import nn

from .layers.sparse_weights import SparseWeights

ANNEALED = 0.7
"""Of the training: then the densities asked for are reached, and the rest is left to recover."""


def anneal_density_(model: nn.Module, progress: float) -> None:
    """Drop the smallest lookups of layers with a ``target_density``, down the cubic of Zhu and Gupta, arXiv:1710.01878.

    Parameters
    ----------
    model
    progress
        Share of the training that is over, 0 to 1.
    """
    left = max(0.0, 1 - progress / ANNEALED) ** 3
    for part in model.modules():
        if isinstance(part, SparseWeights) and part.target_density is not None:
            part.drop_to_(part.target_density + (1 - part.target_density) * left)
