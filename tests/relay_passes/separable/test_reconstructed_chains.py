"""Chains multiplied out: the same numbers, or not at all."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tvm_fastconv.relay_passes.separable.reconstructed_chains import reconstructed

from ...close import assert_close
from .chains import X, chains_of, depthwise

EXACT: dict[str, Callable[[], list[nn.Module]]] = {
    "cp, strides and dilations": lambda: [
        nn.Conv2d(16, 8, 1, bias=False),
        nn.Conv2d(8, 8, (3, 1), (2, 1), (2, 0), (2, 1), groups=8, bias=False),
        nn.Conv2d(8, 8, (1, 5), (1, 3), (0, 1), groups=8, bias=False),
        nn.Conv2d(8, 24, 1),
    ],
    "tucker": lambda: [
        nn.Conv2d(16, 8, 1, bias=False), nn.Conv2d(8, 6, 3, 2, 1), nn.Conv2d(6, 24, 1),
    ],
    "inner biases without padding": lambda: [nn.Conv2d(16, 24, (3, 1)), nn.Conv2d(24, 20, (1, 3))],
    "a bias behind the padding": lambda: [depthwise(16), nn.Conv2d(16, 24, 1)],
    "padding on a 1x1 layer": lambda: [
        nn.Conv2d(16, 8, 1, padding=2, bias=False), nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.Conv2d(8, 24, 1),
    ],
    "multiplier": lambda: [depthwise(16, multiplier=3), nn.Conv2d(48, 24, 1)],
}  # fmt: skip


@pytest.mark.parametrize("case", EXACT)
def test_multiplied_out_it_is_the_same(case: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*EXACT[case]())
    (chain,) = chains_of(model, X)
    found = reconstructed(chain)
    assert found is not None
    weight, bias, params = found
    top, left, bottom, right = params.padding
    planes = nn.functional.pad(X, (left, right, top, bottom))
    inner = None if bias is None else torch.from_numpy(bias)
    got = torch.conv2d(planes, torch.from_numpy(weight), inner, params.stride, dilation=params.dilation)
    # The last bias is no part of the chain: what remains are the inner ones.
    model[-1].bias = None
    want = model(X).detach()
    # 2e-6: four sums of at most 80 float32 terms, one after the other or at once
    assert_close(got, want, 2e-6)


INEXACT: dict[str, Callable[[], list[nn.Module]]] = {
    "padded after a kernel along the same axis": lambda: [
        depthwise(16, 3, bias=False), nn.Conv2d(16, 24, 1, padding=1),
    ],
    "an inner bias in front of padding": lambda: [
        nn.Conv2d(16, 8, 1), depthwise(8, bias=False), nn.Conv2d(8, 24, 1),
    ],
    "two kernels along one axis": lambda: [
        nn.Conv2d(16, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, (1, 3), groups=8), nn.Conv2d(8, 24, 1),
    ],
    "an activation": lambda: [depthwise(16), nn.ReLU(), nn.Conv2d(16, 24, 1)],
}  # fmt: skip


@pytest.mark.parametrize("case", INEXACT)
def test_what_is_not_exact_is_not_multiplied_out(case: str) -> None:
    (chain,) = chains_of(nn.Sequential(*INEXACT[case]()), X)
    assert reconstructed(chain) is None


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_products_beyond_float32_are_not_multiplied_out(scale: float) -> None:
    layers = [nn.Conv2d(16, 24, (3, 1), bias=False), nn.Conv2d(24, 16, (1, 3), bias=False)]
    for layer in layers:
        layer.weight.data *= scale
    (chain,) = chains_of(nn.Sequential(*layers), X)
    assert reconstructed(chain) is None
