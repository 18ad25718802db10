"""Layers that drop small weights for good while they train (Bagherinezhad et al., LCNN, arXiv:1611.06473, section 3.2).

A weight counts as 0 where ``|w| <= threshold``. A forward pass in training drops it: it gets no gradient any more, and
whatever momentum, weight decay or an average over steps still move it, it stays 0. That is kept in a buffer beside the
weight, 1 where nothing was dropped. Only exact ones count, so that means over steps or processes drop what any of
them dropped.
"""

import math

import torch
from torch import nn

from tvm_fastconv.errors import MethodError

THRESHOLD = 0.01
"""Of a weight that is dropped, in units of the largest that PyTorch initializes a layer with: 1 / sqrt(fan in)."""
PENALTY = 0.3
"""The paper's λ, unless asked for another."""


class SparseWeights(nn.Module):
    """What `SparseConv2d` and `SparseLinear` share.

    Attributes
    ----------
    penalty : float
        λ: the gradient of `regularization` is ``penalty * threshold * sign(w)``.
    threshold : Tensor, ()
    kept : Tensor, in the shape of the weight
    target_density : float, optional
        What a schedule of the training is to bring it to.
    """

    weight: nn.Parameter
    kept: torch.Tensor
    threshold: torch.Tensor

    def _make_droppable(self, penalty: float) -> None:
        if not 0 <= penalty < math.inf:
            raise MethodError(f"penalty is {penalty}; allowed: 0 or more")
        self.penalty = penalty
        self.target_density: float | None = None
        threshold = THRESHOLD / math.sqrt(self.weight[0].numel())
        self.register_buffer("threshold", torch.full_like(self.weight[:1].flatten()[0], threshold))
        self.register_buffer("kept", torch.ones_like(self.weight, requires_grad=False))

    @property
    def mask(self) -> torch.Tensor:
        """True where a weight counts."""
        return (self.kept == 1) & (self.weight.detach().abs() > self.threshold)

    @property
    def density(self) -> float:
        """Share of the weights that count."""
        return float(self.mask.float().mean())

    def sparse_weight(self) -> torch.Tensor:
        """The weights that the layer uses, exactly 0 where they are dropped or small."""
        return self.weight * self.mask

    def regularization(self) -> torch.Tensor:
        """The L1 penalty, which the training loop adds to the loss; none where as few are left as there are to be."""
        if self.target_density is not None and self.density <= self.target_density:
            return self.weight.new_zeros(())
        return self.penalty * self.threshold * self.sparse_weight().abs().sum()

    @torch.no_grad()
    def drop_small_(self) -> None:
        """Drop what has become small."""
        self.kept.mul_(self.mask)

    @torch.no_grad()
    def drop_to_(self, density: float) -> None:
        """Drop the smallest weights until at most this share is left.

        Raises
        ------
        MethodError
            ``density`` is not above 0 and at most 1.
        """
        if not 0 < density <= 1:
            raise MethodError(f"density is {density}; allowed: above 0, at most 1")
        sizes = (self.weight.abs() * self.mask).flatten()
        count = int(density * sizes.numel() + 1e-7)
        kept = torch.zeros_like(sizes, dtype=torch.bool)
        kept[sizes.topk(count).indices] = True
        self.kept.mul_(kept.view_as(self.kept) & self.mask)

    @torch.no_grad()
    def start_from(self, weight: torch.Tensor) -> None:
        """Take over ``weight``; its zeros are dropped, and the threshold is below all else."""
        self.weight.copy_(weight)
        self.kept.copy_(weight != 0)
        sizes = self.weight.abs()[self.kept == 1]
        if sizes.numel():
            self.threshold.fill_(min(float(self.threshold), 0.5 * float(sizes.min())))
