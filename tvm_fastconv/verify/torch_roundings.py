"""PyTorch's operators with roundings of our choice."""

import operator
from typing import Any

import torch

from .source import SPREAD, UNIT, Roundings
from .torch_bounds import bound_of, bound_of_factors

DECISIONS = frozenset((
    "_to_copy", "argmax", "argmin", "bitwise_and", "bitwise_not", "bitwise_or", "ceil", "eq",
    "fake_quantize_per_channel_affine", "fake_quantize_per_channel_affine_cachemask",
    "fake_quantize_per_tensor_affine", "fake_quantize_per_tensor_affine_cachemask", "floor", "floor_divide", "fmod",
    "frac", "ge", "gt", "le", "lt", "ne", "quantize_per_channel", "quantize_per_tensor", "remainder", "round", "sgn",
    "sign", "sort", "topk", "trunc",
))  # fmt: skip
LAYERS = frozenset((
    "addmm", "baddbmm", "bmm", "conv1d", "conv2d", "convolution", "linear", "matmul", "mm",
    "scaled_dot_product_attention",
))  # fmt: skip
ROUNDED_FACTORS = LAYERS - {"baddbmm", "bmm", "scaled_dot_product_attention"}
"""Layers that may round their factors: those of constant weights."""


def packet(target: Any) -> str:
    """The operator that a node calls, without its overload: ``"convolution"``."""
    return getattr(target, "__name__", str(target)).partition(".")[0]


def rounded(target: Any, args: tuple, kwargs: dict, value: Any, roundings: Roundings) -> Any:
    """``value = target(*args, **kwargs)``, off by what it may be off by; the first where it is several."""
    if isinstance(value, tuple) and "norm" in packet(target):
        return (rounded(target, args, kwargs, value[0], roundings), *value[1:])
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32 or target is operator.getitem:
        return value
    name = packet(target)
    bound = bound_of(name, target, args, kwargs, value)
    factors = roundings.factors if name in ROUNDED_FACTORS else 0.0
    if not factors and _is_exact(args, value, bound):
        return value
    if factors:
        bound = bound + bound_of_factors(target, args, kwargs, factors)
    if name in LAYERS and value.ndim > 1:
        channel = (1 if "conv" in name else -1) % value.ndim
        others = [axis for axis in range(value.ndim) if axis != channel]
        bound = torch.maximum(bound, roundings.layers * value.abs().amax(others, keepdim=True))
    return value + bound * torch.from_numpy(roundings.signs(tuple(value.shape)))


def _is_exact(args: tuple, value: torch.Tensor, bound: torch.Tensor) -> bool:
    """Whether integers were combined to integers that float32 holds, as signs are: nothing was rounded then."""
    tensors = [value, *(arg for arg in args if isinstance(arg, torch.Tensor) and arg.is_floating_point())]
    numbers = all(float(arg).is_integer() for arg in args if isinstance(arg, float))
    whole = all(bool((tensor == tensor.round()).all()) for tensor in tensors)
    return numbers and whole and float(bound.max()) < SPREAD * UNIT * 2**24
