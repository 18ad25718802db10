"""How far float32 may be off in one operator of PyTorch, element by element.

A sum is as far off as its terms are large, not as its result is: what cancels keeps the errors of what it is made of.
So layers, sums and norms are computed once more of the magnitudes of their operands; everything else is a few roundings
of its result.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .source import FACTOR_SPREAD, SPREAD, UNIT

FEW = 4 * UNIT
"""A few roundings, of two computations together."""

Bound = Callable[[Any, tuple, dict, torch.Tensor], torch.Tensor]


def bound_of(name: str, target: Any, args: tuple, kwargs: dict, value: torch.Tensor) -> torch.Tensor:
    """What ``value = target(*args, **kwargs)`` may be off by, of its shape; ``name`` is the operator's."""
    if name in _TERMS:
        return SPREAD * UNIT * math.sqrt(_TERMS[name](args, value)) * _of_magnitudes(target, args, kwargs)
    return _BOUNDS.get(name, _of_value)(target, args, kwargs, value)


def bound_of_factors(target: Any, args: tuple, kwargs: dict, factors: float) -> torch.Tensor:
    """What a convolution or product may be off by where each of its factors is off by ``factors`` of itself."""
    squares = [arg.square() if isinstance(arg, torch.Tensor) else arg for arg in args]
    return FACTOR_SPREAD * factors * target(*squares, **kwargs).sqrt()


def _of_magnitudes(target: Any, args: tuple, kwargs: dict) -> torch.Tensor:
    sizes = [arg.abs() if isinstance(arg, torch.Tensor) else arg for arg in args]
    return target(*sizes, **kwargs).abs()


def _of_value(_target: Any, _args: tuple, _kwargs: dict, value: torch.Tensor) -> torch.Tensor:
    return FEW * value.abs()


def _of_operands(_target: Any, args: tuple, _kwargs: dict, _value: torch.Tensor) -> torch.Tensor:
    """Two numbers that may cancel."""
    return 2 * UNIT * (torch.as_tensor(args[0]).abs() + torch.as_tensor(args[1]).abs())


def _of_input(_target: Any, args: tuple, _kwargs: dict, _value: torch.Tensor) -> torch.Tensor:
    """``x`` times 1 + erf(x): off by roundings of ``x``."""
    return FEW * args[0].abs()


def _of_softmax(_target: Any, args: tuple, _kwargs: dict, value: torch.Tensor) -> torch.Tensor:
    """A rounding of ``x − max`` is a share of the power."""
    below = args[0].amax(args[1], keepdim=True) - args[0]
    return FEW * value * (1 + below)


def _of_log_softmax(_target: Any, args: tuple, _kwargs: dict, value: torch.Tensor) -> torch.Tensor:
    largest = args[0].abs().amax(args[1], keepdim=True)
    return FEW * (value.abs() + 2 * largest + math.log(args[0].shape[args[1]]))


def _of_resize(_target: Any, args: tuple, _kwargs: dict, value: torch.Tensor) -> torch.Tensor:
    """Weights are differences of coordinates, which are rounded as what is as large as the image."""
    largest = args[0].abs().amax((2, 3), keepdim=True)
    return 2 * UNIT * (1 + max(args[0].shape[2:])) * largest.expand_as(value)


def _of_batch_norm(epsilon_at: int) -> Bound:
    def bound(_target: Any, args: tuple, _kwargs: dict, _value: torch.Tensor) -> torch.Tensor:
        x, weight, bias, mean, variance = args[:5]
        scale = torch.rsqrt(variance + args[epsilon_at]) * (1 if weight is None else weight.abs())
        shift = mean.abs() * scale + (0 if bias is None else bias.abs())
        return FEW * (x.abs() * _by_channel(scale, x) + _by_channel(shift, x))

    return bound


def _by_channel(numbers: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return numbers.reshape([1, -1] + [1] * (like.ndim - 2))


def _of_layer_norm(_target: Any, args: tuple, _kwargs: dict, _value: torch.Tensor) -> torch.Tensor:
    x, sizes, weight, bias, epsilon = args
    size = _standardized(x, range(x.ndim - len(sizes), x.ndim), epsilon)
    return _affine(size, weight, bias)


def _of_group_norm(_target: Any, args: tuple, _kwargs: dict, _value: torch.Tensor) -> torch.Tensor:
    x, weight, bias, batch, _channels, _area, groups, epsilon = args
    size = _standardized(x.reshape(batch, groups, -1), [2], epsilon).reshape(x.shape)
    return _affine(size, *(None if each is None else _by_channel(each, x) for each in (weight, bias)))


def _of_instance_norm(target: Any, args: tuple, kwargs: dict, value: torch.Tensor) -> torch.Tensor:
    x, weight, bias, *_, own_statistics, _momentum, epsilon = args[:8]
    if not own_statistics:
        return _of_batch_norm(7)(target, args, kwargs, value)
    size = _standardized(x, range(2, x.ndim), epsilon)
    return _affine(size, *(None if each is None else _by_channel(each, x) for each in (weight, bias)))


def _of_batch_statistics(_target: Any, args: tuple, _kwargs: dict, _value: torch.Tensor) -> torch.Tensor:
    x, weight, bias, *_, epsilon = args
    size = _standardized(x, [axis for axis in range(x.ndim) if axis != 1], epsilon)
    return _affine(size, *(None if each is None else _by_channel(each, x) for each in (weight, bias)))


def _standardized(x: torch.Tensor, axes: Sequence[int], epsilon: float) -> torch.Tensor:
    """The terms of ``(x − mean) / deviation``, in float64: the mean is rounded as what it is."""
    wide = x.double()
    mean = wide.mean(list(axes), keepdim=True)
    return (wide.abs() + mean.abs()) * torch.rsqrt(wide.var(list(axes), correction=0, keepdim=True) + epsilon)


def _affine(size: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
    scaled = size if weight is None else size * weight.abs()
    return FEW * (scaled if bias is None else scaled + bias.abs()).float()


def _per_output(args: tuple, value: torch.Tensor) -> float:
    return max(1.0, args[0].numel() / max(1, value.numel()))


def _of_convolution(args: tuple, _value: torch.Tensor) -> float:
    transposed = len(args) > 6 and bool(args[6])
    return args[1].numel() / args[1].shape[1 if transposed else 0]


_BOUNDS: dict[str, Bound] = {
    "add": _of_operands, "sub": _of_operands, "rsub": _of_operands, "gelu": _of_input,
    "_softmax": _of_softmax, "softmax": _of_softmax,
    "_log_softmax": _of_log_softmax, "log_softmax": _of_log_softmax,
    "upsample_bilinear2d": _of_resize, "upsample_bicubic2d": _of_resize, "grid_sampler_2d": _of_resize,
    "batch_norm": _of_batch_norm(7), "_native_batch_norm_legit_no_training": _of_batch_norm(6),
    "_native_batch_norm_legit": _of_batch_statistics, "native_layer_norm": _of_layer_norm,
    "native_group_norm": _of_group_norm, "instance_norm": _of_instance_norm,
}  # fmt: skip

_TERMS: dict[str, Callable[[tuple, torch.Tensor], float]] = {
    "convolution": _of_convolution, "conv1d": _of_convolution, "conv2d": _of_convolution,
    "linear": lambda args, _: args[0].shape[-1], "mm": lambda args, _: args[0].shape[-1],
    "bmm": lambda args, _: args[0].shape[-1], "matmul": lambda args, _: args[0].shape[-1],
    "addmm": lambda args, _: args[1].shape[-1], "baddbmm": lambda args, _: args[1].shape[-1],
    "sum": _per_output, "mean": _per_output, "avg_pool2d": _per_output, "_adaptive_avg_pool2d": _per_output,
    "adaptive_avg_pool2d": _per_output, "cumsum": lambda args, _: args[0].numel(), "col2im": _per_output,
    "linalg_vector_norm": _per_output, "prod": _per_output,
}  # fmt: skip
"""How many terms a sum has."""
