"""Chains of separable convolutions for a GPU: one kernel for two stages, executed on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import tvm
from torch import nn
from tvm import relax

from tvm_fastconv.decompose.fixed_stencil import STENCILS
from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes.separable import dispatch_separable
from tvm_fastconv.topi.planner import Planner

from ...close import assert_close
from ...cuda.emulate import TARGET, attach, in_all_orders


def _stencils(channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, 5 * channels, 3, padding=1, groups=channels, bias=False)
    conv.weight.data.copy_(torch.from_numpy(STENCILS).repeat(channels, 1, 1)[:, None])
    return conv


class _Residual(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x)


def _separable(channels: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels), nn.ReLU6(),
        nn.Conv2d(channels, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6(),
    )  # fmt: skip


def _inverted_bottleneck() -> nn.Sequential:
    return _Residual(
        nn.Conv2d(16, 48, 1), nn.ReLU6(), nn.Conv2d(48, 48, 3, 1, 1, groups=48), nn.ReLU6(), nn.Conv2d(48, 16, 1)
    )  # fmt: skip


FUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "depthwise separable": (lambda: _separable(16, 36, 2), (2, 16, 9, 11)),
    "stencils with a bias between": (
        lambda: nn.Sequential(_stencils(16), nn.BatchNorm2d(80), nn.Conv2d(80, 20, 1), nn.ReLU()), (1, 16, 9, 11),
    ),
    "a multiplier": (
        lambda: nn.Sequential(nn.Conv2d(32, 96, 3, 2, 1, groups=32), nn.Conv2d(96, 40, 1), nn.Hardswish()),
        (1, 32, 14, 14),
    ),
    "the last two of three": (_inverted_bottleneck, (2, 16, 9, 11)),
}  # fmt: skip

APART: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "channels that are no vectors": (lambda: _separable(17, 36), (1, 17, 9, 11)),
    "stencils with an activation between": (
        lambda: nn.Sequential(_stencils(16), nn.ReLU(), nn.Conv2d(80, 20, 1)), (1, 16, 9, 11),
    ),
    "no depthwise stage": (
        lambda: nn.Sequential(nn.Conv2d(16, 8, (3, 1), padding=(1, 0)), nn.Conv2d(8, 16, (1, 3), padding=(0, 1))),
        (1, 16, 9, 11),
    ),
}  # fmt: skip

TOLERANCE = 5e-6  # float32 sums in another order, through three layers


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fuse whatever can be."""
    monkeypatch.setattr(dispatch_separable, "unfused_cycles", lambda *_: float("inf"))
    monkeypatch.setattr(dispatch_separable, "reconstructed", lambda _: None)


def _kernels(
    source: nn.Module | torch.export.ExportedProgram, model: nn.Module, batches: list[torch.Tensor]
) -> list[str]:
    """The kernels that ``source`` calls, whose answers are checked against those of ``model``."""
    with TARGET:
        executable = tvm.compile(
            import_model(source, (batches[0],)).mod, target=TARGET, relax_pipeline="fastconv"
        )
    with torch.no_grad(), attach(executable) as session:
        machine = relax.VirtualMachine(executable, tvm.cpu())
        for x in batches:
            given = tvm.runtime.tensor(x.numpy())
            got = in_all_orders(session, lambda given=given: machine["main"](given).numpy())
            assert_close(got, model(x).numpy(), TOLERANCE)
    return [launch.name for launch in session.launches]


@pytest.mark.parametrize("name", FUSED)
def test_two_stages_are_one_kernel(fuse: None, name: str) -> None:
    torch.manual_seed(0)
    make, shape = FUSED[name]
    model = make().eval()
    kernels = _kernels(model, model, [torch.randn(*shape)])
    assert any("fused_chain" in kernel for kernel in kernels), kernels
    assert not any("depthwise" in kernel or "stencil" in kernel for kernel in kernels), kernels


def test_so_they_are_for_any_batch(fuse: None) -> None:
    torch.manual_seed(0)
    model, images = _separable(16, 36).eval(), torch.randn(3, 16, 9, 11)
    source = torch.export.export(
        model, (images,), dynamic_shapes=[{0: torch.export.Dim("n", min=1)}], strict=False
    )
    kernels = _kernels(source, model, [images, images[:1]])
    assert any("fused_chain" in kernel for kernel in kernels), kernels


@pytest.mark.parametrize("name", APART)
def test_other_chains_are_kernels_of_their_own(fuse: None, name: str) -> None:
    torch.manual_seed(0)
    make, shape = APART[name]
    model = make().eval()
    kernels = _kernels(model, model, [torch.randn(*shape)])
    assert not any("fused_chain" in kernel for kernel in kernels), kernels


def test_nothing_is_fused_where_the_target_has_no_chains(fuse: None, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Planner.has
    monkeypatch.setattr(Planner, "has", lambda self, op: op != "chain" and known(self, op))
    model = _separable(16, 36).eval()
    kernels = _kernels(model, model, [torch.randn(1, 16, 9, 11)])
    assert not any("fused_chain" in kernel for kernel in kernels), kernels
