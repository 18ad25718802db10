import numpy as np
import pytest
import torch
import tvm
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.graph.layer_names import named_layers
from tvm_fastconv.relay_passes.separable.canonicalize_low_rank import CanonicalizeLowRank

from ...choices import ZEN_4, choices
from ...close import assert_close
from .chains import MACHINE

X = torch.randn(1, 32, 14, 12, generator=torch.Generator().manual_seed(0))


def _conv(rank: int, kernel: int = 5, **kwargs: object) -> nn.Conv2d:
    """A 32 → 48 convolution with so many independent column filters."""
    rng = np.random.default_rng(0)
    column = rng.standard_normal((rank, 32, kernel))
    row = rng.standard_normal((48, rank, kernel))
    conv = nn.Conv2d(32, 48, kernel, **kwargs)  # type: ignore[arg-type]
    conv.weight.data.copy_(torch.from_numpy(np.einsum("rcy,orx->ocyx", column, row)))
    return conv


def _gaussian(size: int, channels: int = 32, multiplier: int = 1) -> nn.Conv2d:
    line = torch.exp(-((torch.arange(size) - size // 2) ** 2) / 4.0)
    conv = nn.Conv2d(channels, channels * multiplier, size, padding=size // 2, groups=channels)
    scale = torch.rand(channels * multiplier, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    conv.weight.data.copy_(scale * (line[:, None] * line[None, :]))
    return conv


def _layers(conv: nn.Conv2d, methods: dict | None = None) -> list[str]:
    mod = tvm.IRModule({"main": import_model(nn.Sequential(conv).eval(), (X,)).mod["main"]})
    passes = [*pipeline.simplify(), *pipeline.canonicalize(MACHINE), CanonicalizeLowRank(methods)]
    return named_layers(tvm.transform.Sequential(passes)(mod)["main"])


@pytest.mark.parametrize(
    "conv",
    [
        _conv(16), _conv(16, padding=2), _conv(8, 3, stride=2, dilation=2, padding=1), _gaussian(7),
        _gaussian(5, multiplier=2),
    ],
)  # fmt: skip
def test_low_rank_is_split_and_computes_the_same(conv: nn.Conv2d) -> None:
    assert _layers(conv) == ["0.column", "0"]
    model = nn.Sequential(conv).eval()
    compiled = fc.compile(model, (X,))
    # 1e-5: the factors are rounded to float32, and Winograd may run when they are multiplied out again
    assert_close(compiled(X), model(X), 1e-5)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(32, 48, 3), nn.Conv2d(32, 48, (5, 1)), nn.Conv2d(32, 32, 7, groups=32), _gaussian(3), _conv(100),
        nn.Conv2d(32, 64, 5, groups=4),
    ],
)  # fmt: skip
def test_what_gains_nothing_is_left(conv: nn.Conv2d) -> None:
    assert _layers(conv) == ["0"]


def test_what_was_asked_for_is_left() -> None:
    assert _layers(_conv(16), {"0": fc.Dense()}) == ["0"]


def test_a_tiny_perturbation_is_no_rounding() -> None:
    conv = _conv(16)
    conv.weight.data += 1e-4 * torch.randn(conv.weight.shape, generator=torch.Generator().manual_seed(1))
    assert _layers(conv) == ["0"]


@pytest.mark.parametrize("axis", [0, 1])
def test_a_small_filter_or_channel_is_no_rounding(axis: int) -> None:
    conv = _conv(16)
    small = 1e-6 * torch.randn(conv.weight.shape, generator=torch.Generator().manual_seed(1))
    conv.weight.data.index_copy_(axis, torch.tensor([3]), small.narrow(axis, 3, 1))
    assert _layers(conv) == ["0"]


@pytest.mark.parametrize("groups", [1, 32])
def test_infinite_weights_are_left(groups: int) -> None:
    conv = nn.Conv2d(32, 32, 5, groups=groups)
    conv.weight.data *= 1e30
    norm = nn.BatchNorm2d(32)
    norm.weight.data.fill_(1e12)
    mod = tvm.IRModule({"main": import_model(nn.Sequential(conv, norm).eval(), (X,)).mod["main"]})
    passes = [*pipeline.simplify(), *pipeline.canonicalize(MACHINE), CanonicalizeLowRank()]
    assert named_layers(tvm.transform.Sequential(passes)(mod)["main"]) == ["0"]


def test_a_large_kernel_of_low_rank_runs_as_a_chain() -> None:
    model, x = nn.Sequential(_conv(8, 7, padding=3)).eval(), torch.randn(1, 32, 28, 28)
    layers = choices(model, (x,), ZEN_4).layers
    assert [(r.method, r.operations < 28 * 28 * 12000) for r in layers] == [("spatial", True)] * 2
