"""Batch norm over the batches of all processes, on any device; PyTorch's own runs on GPUs alone."""

from typing import Any

import torch
import torch.distributed
from torch import nn
from torch.autograd.function import once_differentiable
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
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        mean, variance, count = _statistics(values.detach())
        if self.track_running_stats:
            self._remember(mean, variance * count / (count - 1))
        return _Normalize.apply(values, self.weight, self.bias, mean, variance, self.eps).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def _statistics(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Mean and variance of each channel over all processes, which have as many values each; and how many in all."""
    axes = [axis for axis in range(values.ndim) if axis != 1]
    mean = values.mean(axes)
    variance = (values - _beside(mean, values)).square_().mean(axes)  # var_mean takes eight times as long
    means, variances = _of_all(torch.stack((mean, variance))).unbind(1)
    mean = means.mean(0)
    count = values.numel() // len(mean) * len(means)
    return mean, variances.mean(0) + (means - mean).square().mean(0), count


def _of_all(mine: torch.Tensor) -> torch.Tensor:
    """What each process has, one after the other; Gloo's sums take twice as long."""
    parts = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, mine)
    return torch.stack(parts)


class _Normalize(torch.autograd.Function):
    """Batch norm with statistics that depend on the values of all processes, and their gradients with them."""

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        mean: torch.Tensor,
        variance: torch.Tensor,
        eps: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(values, weight, mean, (variance + eps).rsqrt())
        return nn.functional.batch_norm(values, mean, variance, weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, weight, mean, scale = ctx.saved_tensors
        _, for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
            grad, values, weight, None, None, mean, scale, True, 0.0, [False, True, True]
        )
        sums = torch.stack((for_bias, for_weight))
        of_grad, of_product = _of_all(sums).mean(0) / (values.numel() // len(mean))
        slope = scale if weight is None else scale * weight
        along = -slope * scale * of_product
        found = grad * _beside(slope, grad)
        found.addcmul_(values, _beside(along, grad)).add_(_beside(-slope * of_grad - along * mean, grad))
        if weight is None:
            return found, None, None, None, None, None
        return found, for_weight, for_bias, None, None, None


def _beside(value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return value.view(-1, *[1] * (x.ndim - 2))


def synchronize_batch_norms_(model: nn.Module) -> None:
    """Swap the batch norms of ``model`` for `SyncedBatchNorm`, in place; parameters and statistics stay the same."""
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
    made: dict[nn.Module, nn.Module] = {norm: SyncedBatchNorm(norm).train(norm.training) for norm in norms}
    swap_layers(model, made)
