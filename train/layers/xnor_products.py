"""Binary layers whose training runs forward on compiled kernels of packed bits; backward is PyTorch's.

The kernels come from `tvm_fastconv.ops`, which is imported when they are first turned on: a machine without TVM trains
on PyTorch alone.
"""

import importlib.util
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from tvm_fastconv.errors import MethodError

Pair = tuple[int, int]


def use_xnor_(model: nn.Module, on: bool = True) -> None:
    """Let binary layers of ``model`` run forward on packed bits, wherever both operands are signs times a magnitude.

    That is on the CPU, with weights and activations of one bit and both signs, without groups, padded with zeros, and
    not before a schedule has turned both quantizers on. Everywhere else the layer computes as before.

    Raises
    ------
    MethodError
        TVM, which compiles the kernels, is not installed.
    """
    from .binary_layers import BinaryWeights

    if on and importlib.util.find_spec("tvm") is None:
        raise MethodError(
            "kernels of binary layers are compiled by TVM, which is not installed; run: pip install apache-tvm"
        )
    for part in model.modules():
        if isinstance(part, BinaryWeights):
            part.runs_on_bits = on


class XnorConv2d(torch.autograd.Function):
    """`torch.nn.functional.conv2d` of an input of one magnitude by a weight of one per filter, with its gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: Pair, padding: Pair, dilation: Pair
    ) -> torch.Tensor:
        """Convolve signs, and scale the sums."""
        from tvm_fastconv.ops import xnor_conv2d

        ctx.save_for_backward(x, weight)
        ctx.geometry = (stride, padding, dilation)
        sums = xnor_conv2d(x, weight, stride, padding, dilation)
        return sums.to(x.dtype) * _magnitudes(x, weight)[:, None, None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of the dense convolution."""
        x, weight = ctx.saved_tensors
        wanted = [*ctx.needs_input_grad[:2], False]
        for_x, for_weight, _ = torch.ops.aten.convolution_backward(
            grad.to(x.dtype), x, weight.to(x.dtype), None, *ctx.geometry, False, (0, 0), 1, wanted
        )
        return for_x, for_weight, None, None, None


class XnorLinear(torch.autograd.Function):
    """`torch.nn.functional.linear` of an input of one magnitude by a weight of one per row, with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Multiply signs, and scale the sums."""
        from tvm_fastconv.ops import xnor_gemm

        ctx.save_for_backward(x, weight)
        return xnor_gemm(x, weight.T).to(x.dtype) * _magnitudes(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Of the dense product."""
        x, weight = ctx.saved_tensors
        for_x, for_weight = ctx.needs_input_grad
        grad, weight = grad.to(x.dtype), weight.to(x.dtype)
        return (
            grad @ weight if for_x else None,
            grad.flatten(0, -2).T @ x.flatten(0, -2) if for_weight else None,
        )


def _magnitudes(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Of the products of each filter, (O,)."""
    return (x.flatten()[0].abs() * weight.flatten(1)[:, 0].abs()).to(x.dtype)
