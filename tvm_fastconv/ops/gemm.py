"""Product of the signs of two matrices."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ..errors import InputError
from .places import compiled_for, run, same_place, target_of
from .tensors import check_tensor, compiling, readable, signs


@torch.compiler.disable
def xnor_gemm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply the signs of two matrices: ``torch.matmul(sign(a), sign(b))``, exactly, by exclusive or and popcount.

    A value of 0 or more counts as +1, anything else, NaN included, as −1. Shapes are those of ``torch.matmul``.

    The gradient is the straight-through estimator of Hubara et al. (arXiv:1602.02830), that of
    ``hardtanh`` in place of the sign: ``grad_a = (grad @ sign(b)ᵀ) · [|a| ≤ 1]``, ``grad_b = (sign(a)ᵀ @ grad) ·
    [|b| ≤ 1]``; PyTorch computes it in FP32.

    Parameters
    ----------
    a : Tensor, (..., m, k) or (k,)
    b : Tensor, (k, n), (k,), or (..., k, n), whose leading sizes broadcast with those of ``a``
        Each of float32, float64, float16 or bfloat16, both in memory of the CPU or of the first GPU. Float32 is read
        in place if it is contiguous and starts at a multiple of 64 bytes; anything else is copied first.

    Returns
    -------
    Tensor, float32
        Exact for k up to 2^24.

    Raises
    ------
    InputError
        When an argument is no such tensor, the shapes do not fit, or a size is 0.

    Notes
    -----
    The code is compiled when a pair (k, n) comes for the first time, in about 0.2 s; any number of rows shares it. A
    call uses ``torch.get_num_threads()`` threads, or PyTorch's current stream of the GPU. Of results of many megabytes,
    a third of the time may go into fresh pages of memory; ``THP_MEM_ALLOC_ENABLE=1`` in the environment makes PyTorch
    ask for large ones.
    """
    check_tensor("xnor_gemm", "a", a)
    check_tensor("xnor_gemm", "b", b)
    same_place("xnor_gemm", a=a, b=b)
    _check_shapes(a, b)
    left = a.unsqueeze(0) if a.ndim == 1 else a
    right = b.unsqueeze(1) if b.ndim == 1 else b
    product = _batched(left, right)
    if a.ndim == 1:
        product = product.squeeze(-2)
    return product.squeeze(-1) if b.ndim == 1 else product


def _batched(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product of (..., m, k) and (..., k, n)."""
    (*lead, m, k), (*others, _, n) = a.shape, b.shape
    if not others:
        return _XnorGemm.apply(a.reshape(-1, k), b).reshape(*lead, m, n)
    whole = torch.broadcast_shapes(lead, others)
    pairs = zip(
        a.expand(*whole, m, k).reshape(-1, m, k), b.expand(*whole, k, n).reshape(-1, k, n), strict=True
    )
    return torch.stack([_XnorGemm.apply(*pair) for pair in pairs]).reshape(*whole, m, n)


def _check_shapes(a: torch.Tensor, b: torch.Tensor) -> None:
    shapes = f"a has shape {tuple(a.shape)}, b {tuple(b.shape)}"
    rows = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != rows:
        raise InputError(f"xnor_gemm: {shapes}: the {a.shape[-1]} columns of a are not the {rows} rows of b")
    try:
        torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except RuntimeError:
        raise InputError(f"xnor_gemm: {shapes}: the leading sizes do not broadcast") from None


class _XnorGemm(torch.autograd.Function):
    """The product of two matrices, with the straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(a, b)
        return _product(a.detach(), b.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        a, b = ctx.saved_tensors
        for_a, for_b = ctx.needs_input_grad
        return (
            _passed_through(grad @ signs(b).T, a) if for_a else None,
            _passed_through(signs(a).T @ grad, b) if for_b else None,
        )


def _passed_through(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.abs() <= 1, grad, 0).to(x.dtype)


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product of (m, k) and (k, n), without a gradient."""
    m, n = len(a), b.shape[1]
    with compiling:
        code, rows = _compile(*b.shape, b.device.type)
    tiles = -(-m // rows)
    out = torch.empty(tiles * rows, n, dtype=torch.float32, device=b.device)
    run(code, readable(a), readable(b), out.view(tiles, rows, n))
    return out[:m]


@functools.cache
def _compile(k: int, n: int, place: str) -> tuple[Any, int]:
    from tvm_fastconv.topi.machines import machine_of
    from tvm_fastconv.topi.planner import Planner
    from tvm_fastconv.topi.schedules import schedule_primfunc
    from tvm_fastconv.topi.xnor_gemm import XnorGemmProblem, xnor_gemm

    target = target_of(place)
    machine, problem = machine_of(target), XnorGemmProblem(inner=k, columns=n)
    knobs = Planner(machine).planned("xnor_gemm", problem).knobs
    func = schedule_primfunc(xnor_gemm(problem, knobs, not machine.counts_words), machine)
    return compiled_for(target, func), knobs.tile_h
