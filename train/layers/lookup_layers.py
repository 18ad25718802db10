"""What lookup convolutions and lookup linear layers share."""

from typing import Any

import torch
from torch import nn

from .sparse_weights import SparseWeights


class LookupLayer(nn.Module):
    """``dictionary``, whose products ``lookups`` adds up.

    Attributes
    ----------
    error : float, optional
        Of the weight that it started with, relative to the dense layer's (Frobenius norm), if it came from one.
    """

    dictionary: nn.Module
    lookups: SparseWeights
    error: float | None = None

    @property
    def structure(self) -> dict[str, Any]:
        """Arguments that, beside those of the dense layer, make such a layer again."""
        groups = getattr(self.dictionary, "groups", 1)
        size = len(self.dictionary.weight) // groups
        return {"dictionary_size": size, "penalty": self.lookups.penalty}

    @property
    def density(self) -> float:
        """Share of the coefficients that are not 0."""
        return self.lookups.density

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve or multiply ``input``."""
        return self.lookups(self.dictionary(input))

    def extra_repr(self) -> str:
        """What the layer starts from, if it started from another."""
        return "" if self.error is None else f"error={self.error:.3g}"
