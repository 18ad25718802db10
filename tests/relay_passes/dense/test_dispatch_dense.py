import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tvm_fastconv.relay_passes.dense.dispatch_dense import DispatchDense

from ..operators import PLANNER, canonical, operators

IMAGE, ROWS = torch.randn(2, 8, 9, 10), torch.randn(5, 12)

OURS: dict[str, tuple[nn.Module, torch.Tensor, list[str]]] = {
    "a convolution": (nn.Conv2d(8, 6, 3, padding=1, bias=False), IMAGE, ["conv2d"]),
    "strided and dilated": (nn.Conv2d(8, 6, (3, 2), 2, dilation=(1, 2), bias=False), IMAGE, ["conv2d"]),
    "its bias is added behind it": (nn.Conv2d(8, 6, 1), IMAGE, ["conv2d", "add"]),
    "narrow groups": (nn.Conv2d(8, 8, 3, groups=4, bias=False), IMAGE, ["grouped_conv2d"]),
    "transposed": (nn.ConvTranspose2d(8, 6, 3, 2, bias=False), IMAGE, ["conv2d"]),
    "a linear layer": (nn.Linear(12, 7, bias=False), ROWS, ["dense"]),
    "a linear layer on more axes": (nn.Linear(10, 7, bias=False), IMAGE, ["dense"]),
}  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_layers_with_constant_weights_become_ours(name: str) -> None:
    model, x, expected = OURS[name]
    assert operators(canonical(model, x, DispatchDense(PLANNER))) == expected


class Computed(nn.Module):
    """Its weights are an input, or made from one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, x[:1, :, :3, :3]) + torch.matmul(x[0, 0], x[1, 0].mT).sum()


def test_layers_with_computed_weights_stay() -> None:
    mod = canonical(Computed(), IMAGE, DispatchDense(PLANNER))
    assert [name for name in operators(mod) if name in ("nn.conv2d", "matmul")] == ["nn.conv2d", "matmul"]
