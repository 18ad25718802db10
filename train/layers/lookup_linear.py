"""Linear layer by lookups into a dictionary: a 1×1 `LookupConv2d` on rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tvm_fastconv.configs import Lookup

from .dense_layers import factory_of, linear_options, stand_for, weight_of
from .lookup_factors import check_size, fresh_options, grouped_lookup
from .lookup_layers import LookupLayer
from .sparse_weights import PENALTY, SparseWeights

if TYPE_CHECKING:
    from typing_extensions import Self


class SparseLinear(SparseWeights, nn.Linear):
    """Linear layer that drops small weights while it trains, see `sparse_weights`: ``(..., I)`` to ``(..., O)``.

    Parameters
    ----------
    args, kwargs
        Of `torch.nn.Linear`.
    penalty
        The paper's λ.
    """

    def __init__(self, *args: Any, penalty: float = PENALTY, **kwargs: Any) -> None:
        nn.Linear.__init__(self, *args, **kwargs)
        self._make_droppable(penalty)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply ``x``, after dropping what has become small if this is training."""
        if self.training:
            self.drop_small_()
        return nn.functional.linear(x, self.sparse_weight(), self.bias)


class LookupLinear(LookupLayer):
    """``dictionary``, a linear layer without bias, then ``lookups``, a `SparseLinear`: ``(..., I)`` to ``(..., O)``.

    Parameters
    ----------
    in_features, out_features, bias, kwargs
        Of the `torch.nn.Linear` whose place it takes.
    dictionary_size : int
        Vectors in the dictionary, at most ``out_features``.
    penalty : float
        The paper's λ.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dictionary_size: int,
        penalty: float = PENALTY,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        check_size(dictionary_size, out_features)
        self.dictionary = nn.Linear(in_features, dictionary_size, bias=False, **kwargs)
        nn.init.kaiming_uniform_(self.dictionary.weight, nonlinearity="linear")
        self.lookups = SparseLinear(dictionary_size, out_features, bias, penalty=penalty, **kwargs)

    @classmethod
    def from_linear(cls, linear: nn.Linear, config: Lookup, *, penalty: float = PENALTY) -> Self:
        """The lookups nearest to ``linear``.

        Raises
        ------
        MethodError
            ``config`` names no dictionary size, or ``linear`` cannot be approximated so.
        """
        weight = weight_of(linear, nn.Linear)
        found = grouped_lookup(weight[:, :, None, None], config, groups=1)
        made = cls(
            **linear_options(linear),
            dictionary_size=len(found.dictionary),
            penalty=penalty,
            **factory_of(linear),
        )
        made.error = found.error
        with torch.no_grad():
            made.dictionary.weight.copy_(torch.from_numpy(found.dictionary))
        made.lookups.start_from(torch.from_numpy(found.coefficients[:, :, 0, 0]))
        return stand_for(made, linear)

    @classmethod
    def fresh(cls, linear: nn.Linear, config: Lookup, *, penalty: float = PENALTY) -> Self:
        """Lookups in the sizes of ``linear``, all of them there still, on the way to the density of ``config``.

        Raises
        ------
        MethodError
            ``config`` names no dictionary size, or asks for an error, which depends on weights.
        """
        options = linear_options(linear) | fresh_options(config)
        made = stand_for(cls(**options, penalty=penalty, **factory_of(linear)), linear)
        made.lookups.target_density = config.density
        return made
