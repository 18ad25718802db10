"""Batch norm over the batches of all processes, on any device; PyTorch's own runs on GPUs alone."""

import torch
import torch.distributed
from torch import nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from ..swap_layers import swap_layers


class SyncedBatchNorm(_BatchNorm):
    """`torch.nn.BatchNorm1d` or `torch.nn.BatchNorm2d` whose batch ``(N, C, ...)`` is that of all processes together.

    In eval mode, and in one process alone, it is what those are.

    Parameters
    ----------
    norm
        Whose parameters and statistics it has.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, "meta"
        )
        self._parameters, self._buffers = norm._parameters, norm._buffers

    def _check_input_dim(self, x: torch.Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"expected 2 axes or more (got {x.ndim})")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        together = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
        if not (self.training and together):
            return super().forward(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        count = values.numel() // self.num_features * torch.distributed.get_world_size()
        mean = all_reduce(values.sum(axes)) / count
        centred = values - _beside(mean, x)
        variance = all_reduce(centred.square().sum(axes)) / count
        if self.track_running_stats:
            self._remember(mean.detach(), variance.detach() * count / (count - 1))
        normed = centred * _beside((variance + self.eps).rsqrt(), x)
        if self.affine:
            normed = normed * _beside(self.weight, x) + _beside(self.bias, x)
        return normed.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def _beside(value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return value.view(-1, *[1] * (x.ndim - 2))


def synchronize_batch_norms_(model: nn.Module) -> None:
    """Swap the batch norms of ``model`` for `SyncedBatchNorm`, in place; parameters and statistics stay the same."""
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
    made: dict[nn.Module, nn.Module] = {norm: SyncedBatchNorm(norm).train(norm.training) for norm in norms}
    swap_layers(model, made)
