"""Bounds of rounding: PyTorch's float32 is within them of its float64, and they are no wider than they must be."""

from collections.abc import Callable

import pytest
import torch

from tvm_fastconv.verify.torch_bounds import bound_of
from tvm_fastconv.verify.torch_roundings import packet

aten = torch.ops.aten
RANDOM = torch.Generator().manual_seed(0)


def normal(*shape: int, mean: float = 0.0, deviation: float = 1.0) -> torch.Tensor:
    return mean + deviation * torch.randn(shape, generator=RANDOM)


PLANES = normal(2, 6, 9, 11, mean=1000.0, deviation=0.1)
GAMMA, BETA = normal(6), normal(6)

CALLS: dict[str, tuple[Callable, tuple]] = {
    "softmax": (aten._softmax.default, (normal(40, 50, deviation=20.0), 1, False)),
    "log_softmax": (aten._log_softmax.default, (normal(40, 50, deviation=20.0), 1, False)),
    "gelu": (aten.gelu.default, (normal(2000, mean=-4.0),)),
    "hardswish": (aten.hardswish.default, (normal(2000, deviation=3.0),)),
    "difference": (aten.sub.Tensor, (normal(2000, mean=1000.0), normal(2000))),
    "bilinear": (aten.upsample_bilinear2d.vec, (normal(1, 2, 30, 40), [71, 93], False, None)),
    "layer norm": (aten.native_layer_norm.default, (PLANES, [9, 11], normal(9, 11), normal(9, 11), 1e-5)),
    "group norm": (aten.native_group_norm.default, (PLANES, GAMMA, BETA, 2, 6, 99, 3, 1e-5)),
    "instance norm": (aten.instance_norm.default, (PLANES, GAMMA, BETA, None, None, True, 0.1, 1e-5, False)),
    "batch statistics": (aten._native_batch_norm_legit.no_stats, (PLANES, GAMMA, BETA, True, 0.1, 1e-5)),
    "batch norm": (
        aten._native_batch_norm_legit_no_training.default,
        (PLANES, GAMMA, BETA, 1000 + 0.1 * normal(6), normal(6) ** 2, 0.1, 1e-5),
    ),
    "convolution": (
        aten.convolution.default,
        (normal(1, 30, 8, 8), normal(7, 30, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
    ),
    "linear": (aten.linear.default, (normal(9, 700), normal(30, 700))),
}  # fmt: skip


def _first(value: torch.Tensor | tuple) -> torch.Tensor:
    return value[0] if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", CALLS)
def test_float32_is_within_its_bound_of_float64(name: str) -> None:
    target, args = CALLS[name]
    wide = tuple(arg.double() if isinstance(arg, torch.Tensor) else arg for arg in args)
    value, exact = _first(target(*args)), _first(target(*wide))
    bound = bound_of(packet(target), target, args, {}, value)
    error = (value.double() - exact).abs()
    assert bound.shape == value.shape
    assert bool((error <= bound + torch.finfo(torch.float32).tiny).all())  # below, there are fewer bits
    # Of 6 deviations, or 4 roundings at once, the largest error uses a two-hundredth at least.
    assert float((error / bound.clamp(min=1e-38)).max()) > 0.005


def test_a_bound_of_the_result_alone_would_be_too_small() -> None:
    """What cancels keeps the errors of what it is made of: these need a bound of their own."""
    for name in ("gelu", "softmax", "log_softmax", "bilinear", "layer norm", "group norm", "convolution"):
        target, args = CALLS[name]
        wide = tuple(arg.double() if isinstance(arg, torch.Tensor) else arg for arg in args)
        value, exact = _first(target(*args)), _first(target(*wide))
        assert bool(((value.double() - exact).abs() > 4 * 2.0**-24 * value.abs()).any()), name
