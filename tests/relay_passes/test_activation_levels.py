"""Values that are moved between a sign or a rounding and the layer that reads them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tvm_fastconv as fc


def _sign(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def _three_bits(x: torch.Tensor) -> torch.Tensor:
    return torch.clamp(torch.round(x / 0.3), -3, 4) * 0.3


MOVES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "reflection": lambda x: F.pad(x, (1, 2, 1, 0), mode="reflect"),
    "replication": lambda x: F.pad(x, (1, 2, 1, 0), mode="replicate"),
    "all around": lambda x: F.pad(x, (1, 2, 1, 0), mode="circular"),
    "max pooling": lambda x: F.max_pool2d(x, 3, 2, 1),
    "cut": lambda x: x[:, 8:, 1:-1, ::2],
    "shuffle": lambda x: F.channel_shuffle(x, 4),
    "transpose": lambda x: x.transpose(2, 3),
}


class _Layer(nn.Module):
    def __init__(self, activation: Callable[[torch.Tensor], torch.Tensor], channels: int) -> None:
        super().__init__()
        self.activation, self.weight = activation, nn.Parameter(torch.randn(48, channels, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(self.activation(x), torch.sign(self.weight))


@pytest.mark.parametrize("levels", [_sign, _three_bits, lambda x: 0.7 * _sign(x) + 0.7])
@pytest.mark.parametrize("move", MOVES)
def test_moved_levels_are_levels(move: str, levels: Callable[[torch.Tensor], torch.Tensor]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 48, 9, 10)
    model = _Layer(lambda x: MOVES[move](levels(x)), 40 if move == "cut" else 48).eval()
    compiled = fc.compile(model, x)
    (layer,) = compiled.layers
    assert layer.method == "bitserial"
    assert layer.op in ("bitserial_conv2d", "int8_conv2d")
    want = model(x)
    # 1e-6: integer sums times one float32 scale
    assert (compiled(x) - want).abs().max() <= 1e-6 * want.abs().max()


def test_a_linear_layer_reads_the_levels_of_a_plane() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), _Sign(), nn.Flatten(), _BinaryLinear(288, 64))
    x = torch.randn(2, 3, 8, 8)
    assert [layer.method for layer in fc.compile(model.eval(), x).layers] == ["dense", "bitserial"]


def test_a_border_of_another_value_is_no_level() -> None:
    model = _Layer(lambda x: F.pad(_three_bits(x), (0, 0, 0, 0, 0, 8), value=0.1), 56).eval()
    (layer,) = fc.compile(model, torch.randn(1, 48, 9, 10)).layers
    assert layer.method == "dense"


class _Sign(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _sign(x)


class _BinaryLinear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, torch.sign(self.weight), self.bias)
