"""TF32 on request: which layers run in it, and which stay as exact as they are."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from torch import nn

from tvm_fastconv.relay_passes.dense.direct_plan import plan_direct, plan_linear
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.dense import MatmulProblem
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.train.layers import BinaryConv2d

from ...choices import choices

H100 = "cuda -arch=sm_90"
IMAGE = torch.randn(8, 64, 28, 28)


def _operators(model: nn.Module, x: torch.Tensor = IMAGE, allow_tf32: bool = True) -> list[str]:
    torch.manual_seed(0)
    return [layer.op for layer in choices(model.eval(), x, H100, allow_tf32=allow_tf32).layers]


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(64, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 128, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(128, 1000),
    )  # fmt: skip


def test_convolutions_and_linear_layers_run_in_tf32_on_request_alone() -> None:
    assert _operators(_network()) == ["tf32_conv2d"] * 3
    assert _operators(_network(), allow_tf32=False) == ["conv2d", "conv2d", "dense"]


def test_the_report_says_so() -> None:
    layers = choices(_network().eval(), IMAGE, H100, allow_tf32=True).layers
    said = r"TF32, as allowed: \d+\.\d times faster than direct in FP32 by estimate"
    assert all(re.fullmatch(said, layer.reason) for layer in layers)
    assert [layer.reason for layer in choices(_network().eval(), IMAGE, H100).layers] == [""] * 3


@pytest.mark.parametrize(
    "decision", [lambda x: torch.where(x > 0, 1.0, -1.0), torch.round, lambda x: (x * 3).relu().floor()]
)
def test_what_decides_something_stays_exact(decision: object) -> None:
    class Decided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(64, 64, 3, 2, 1), nn.Conv2d(64, 64, 3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(decision(self.first(x)) + x[:, :, ::2, ::2])  # type: ignore[operator]

    assert _operators(Decided()) == ["conv2d", "tf32_conv2d"]


def test_bits_stay_bits() -> None:
    model = nn.Sequential(
        nn.Conv2d(64, 64, 3, 1, 1), nn.BatchNorm2d(64), BinaryConv2d(64, 64, 3, 1, 1), nn.BatchNorm2d(64),
        nn.Conv2d(64, 64, 3, 2, 1),
    )  # fmt: skip
    assert _operators(model) == ["conv2d", "bitserial_conv2d", "tf32_conv2d"]


def test_groups_and_images_stay_in_fp32() -> None:
    model = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.Conv2d(64, 64, 3, 1, 1, groups=4))
    assert _operators(model, torch.randn(1, 3, 64, 64)) == ["conv2d", "grouped_conv2d"]


def test_tf32_competes_with_winograd() -> None:
    """By estimate, it is behind where there are many channels of few pixels."""
    model = nn.Sequential(nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 2, 1))
    assert _operators(model, torch.randn(32, 64, 56, 56)) == ["tf32_conv2d"] * 2
    many = nn.Conv2d(512, 512, 3, 1, 1)
    assert _operators(many, torch.randn(32, 512, 7, 7)) == ["winograd_conv2d"]


def test_a_plan_is_exact_where_that_is_asked() -> None:
    planner = Planner(GPUS["h100"], allow_tf32=True)
    conv = Conv2dParams(kernel=(3, 3), out_channels=64, padding=(1, 1, 1, 1))
    problem = ConvProblem(batch=32, height=56, width=56, channels=64, conv=conv)
    rows = MatmulProblem(rows=64, inner=1024, columns=1024)
    for plan, exact in ((plan_direct, problem), (plan_linear, rows)):
        assert plan(planner, exact).op == "tf32_conv2d"
        assert plan(planner, exact, exact=True).op != "tf32_conv2d"
        assert plan(Planner(GPUS["h100"]), exact).op != "tf32_conv2d"
    asked = plan_linear(planner, rows).problem
    assert asked == dataclasses.replace(problem, batch=64, height=1, width=1, channels=1024, conv=asked.conv)
    np.testing.assert_equal((asked.conv.kernel, asked.conv.out_channels), ((1, 1), 1024))
