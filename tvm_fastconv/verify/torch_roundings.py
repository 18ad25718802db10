"""How far float32 may be off in one operator of PyTorch, element by element.

A sum is as far off as its terms are large, not as its result is: what cancels keeps the errors of what it is made of.
So layers, sums and batch norms are computed once more of the magnitudes of their operands.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch

from .source import SPREAD, UNIT, Roundings

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


def packet(target: Any) -> str:
    """The operator that a node calls, without its overload: ``"convolution"``."""
    return getattr(target, "__name__", str(target)).partition(".")[0]


def rounded(target: Any, args: tuple, kwargs: dict, value: Any, roundings: Roundings) -> Any:
    """``value = target(*args, **kwargs)``, off by what it may be off by; the first where it is several."""
    if isinstance(value, tuple) and "norm" in packet(target):
        return (rounded(target, args, kwargs, value[0], roundings), *value[1:])
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32 or target is operator.getitem:
        return value
    bound = _bound(packet(target), target, args, kwargs, value)
    if _is_exact(args, value, bound):
        return value
    if packet(target) in LAYERS:
        bound = torch.clamp(bound, min=roundings.layers * value.abs().max())
    return value + bound * torch.from_numpy(roundings.signs(tuple(value.shape)))


def _is_exact(args: tuple, value: torch.Tensor, bound: torch.Tensor) -> bool:
    """Whether integers were combined to integers that float32 holds, as signs are: nothing was rounded then."""
    tensors = [value, *(arg for arg in args if isinstance(arg, torch.Tensor) and arg.is_floating_point())]
    numbers = all(float(arg).is_integer() for arg in args if isinstance(arg, float))
    whole = all(bool((tensor == tensor.round()).all()) for tensor in tensors)
    return numbers and whole and float(bound.max()) < SPREAD * UNIT * 2**24


def _bound(name: str, target: Any, args: tuple, kwargs: dict, value: torch.Tensor) -> torch.Tensor:
    if name in _TERMS:
        terms = _TERMS[name](args, value)
        return SPREAD * UNIT * math.sqrt(terms) * target(*map(_magnitude, args), **kwargs).abs()
    if name in ("add", "sub", "rsub"):
        return 2 * UNIT * (torch.as_tensor(args[0]).abs() + torch.as_tensor(args[1]).abs())
    if name in ("batch_norm", "_native_batch_norm_legit_no_training"):
        return 4 * UNIT * _batch_norm_magnitude(*args[:5], epsilon=args[7 if name == "batch_norm" else 6])
    if any(part in name for part in ("norm", "softmax", "var", "std")):
        return 4 * UNIT * value.abs().max() * torch.ones_like(value)
    return 4 * UNIT * value.abs()


def _magnitude(arg: Any) -> Any:
    return arg.abs() if isinstance(arg, torch.Tensor) else arg


def _per_output(args: tuple, value: torch.Tensor) -> float:
    return max(1.0, args[0].numel() / max(1, value.numel()))


def _of_convolution(args: tuple, _value: torch.Tensor) -> float:
    transposed = len(args) > 6 and bool(args[6])
    return args[1].numel() / args[1].shape[1 if transposed else 0]


_TERMS: dict[str, Callable[[tuple, torch.Tensor], float]] = {
    "convolution": _of_convolution, "conv1d": _of_convolution, "conv2d": _of_convolution,
    "linear": lambda args, _: args[0].shape[-1], "mm": lambda args, _: args[0].shape[-1],
    "bmm": lambda args, _: args[0].shape[-1], "matmul": lambda args, _: args[0].shape[-1],
    "addmm": lambda args, _: args[1].shape[-1], "baddbmm": lambda args, _: args[1].shape[-1],
    "sum": _per_output, "mean": _per_output, "avg_pool2d": _per_output, "_adaptive_avg_pool2d": _per_output,
    "adaptive_avg_pool2d": _per_output, "cumsum": lambda args, _: args[0].numel(),
}  # fmt: skip


def _batch_norm_magnitude(
    x: torch.Tensor, weight: Any, bias: Any, mean: Any, variance: Any, *, epsilon: float
) -> torch.Tensor:
    channels = [1, -1] + [1] * (x.ndim - 2)
    scale = (1 if weight is None else weight.abs()) / torch.sqrt(variance + epsilon)
    shift = mean.abs() * scale + (0 if bias is None else bias.abs())
    return x.abs() * scale.reshape(channels) + shift.reshape(channels)
