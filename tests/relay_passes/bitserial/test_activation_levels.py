"""The ways in which people write values of few levels, and what moves them to the layer that reads them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tvm_fastconv as fc

from ...close import assert_close

# Integer sums times one float32 scale; PyTorch's sums are of up to 432 float32 products, ours too where that is faster.
TOLERANCE = 2e-6


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
    "half of the channels": lambda x: x.chunk(2, 1)[1],
    "nearest neighbours": lambda x: F.interpolate(x, scale_factor=2),
    "nearest of uneven sizes": lambda x: F.interpolate(x, (12, 7)),
    "joined": lambda x: torch.cat([x[:, 24:], x[:, :24]], 1),
    "mirrored": lambda x: x.flip(3),
}

THRESHOLDS = torch.linspace(-0.7, 0.7, 48).view(1, 48, 1, 1)

WRITTEN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "int where": lambda x: torch.where(x >= 0, 1, -1).to(x.dtype),
    "int arithmetic": lambda x: ((x >= 0) * 2 - 1).float(),
    "bool times float": lambda x: 2.0 * (x >= 0) - 1.0,
    "by way of int8": lambda x: (x >= 0).to(torch.int8).float() * 2 - 1,
    "negated": lambda x: (~(x < 0)).float() * 2 - 1,
    "clamped": lambda x: torch.clamp(_sign(x), -1, 1),
    "a threshold per channel": lambda x: torch.where(x >= THRESHOLDS, 1.0, -1.0),
    "two comparisons per channel": lambda x: (x >= THRESHOLDS).float() - (x < THRESHOLDS).float(),
    "two comparisons added": lambda x: (x >= 0).float() + (x < 0).float() * -1,
    "a mask less its complement": lambda x: (x >= 0).float() - (~(x >= 0)).float(),
    "a mask less its complement, scaled": lambda x: 3 * (x > 0) - 3.0 * ~(x > 0),
    "a computed threshold": lambda x: torch.where(x >= x.mean(1, keepdim=True), 1.0, -1.0),
    "a threshold per pixel": lambda x: torch.where(x >= torch.linspace(-1, 1, 10), 1.0, -1.0),
    "an interval": lambda x: torch.where((x >= -0.5) & (x < 0.5), 1.0, -1.0),
    "a border of ones": lambda x: F.pad(_sign(x), (1, 1, 1, 1), value=1.0),
    "bipolar, two bits": lambda x: torch.round((x.clamp(-1, 1) * 0.5 + 0.5) * 3) / 3 * 2 - 1,
    "bipolar, four bits": lambda x: torch.round((x.clamp(-1, 1) * 0.5 + 0.5) * 15) / 15 * 2 - 1,
    "bounds between levels": lambda x: torch.round(x.clamp(-1, 1) * 2.5),
    "a bound that rounds up": lambda x: torch.fake_quantize_per_tensor_affine(F.relu6(x), 0.0321, 0, 0, 255),
}

NEARLY: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "joined levels": (lambda x: torch.cat([_sign(x), 0.5 * _sign(x)], 1)[:, :48], "has different levels"),
    "ternary": (lambda x: (x > 0.5).float() - (x < -0.5).float(), "made of two decisions"),
    "ternary, added": (lambda x: (x > 0).float() + (x < 0).float() * -1, "made of two decisions"),
    "two thresholds added": (lambda x: (x >= 0.5).float() + (x < 0).float() * -1, "made of two decisions"),
    "masks of two values": (lambda x: (x >= 0).float() - (~(x.abs() >= 1)).float(), "made of two decisions"),
    "a border between levels": (lambda x: F.pad(_sign(x), (1, 1, 1, 1), value=0.5), "padding with 0.5"),
    "many levels": (lambda x: torch.clamp(torch.round(x * 200), -200, 200), "401 levels"),
    "no zero": (lambda x: torch.round(x.clamp(0, 1) * 3) + 0.3, "multiples of half their distance"),
}


class _Layer(nn.Module):
    def __init__(
        self, activation: Callable[[torch.Tensor], torch.Tensor], channels: int, padding: int = 0
    ) -> None:
        super().__init__()
        self.activation, self.weight = activation, nn.Parameter(torch.randn(48, channels, 3, 3))
        self.padding = padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(self.activation(x), torch.sign(self.weight), padding=self.padding)


@pytest.mark.parametrize("levels", [_sign, _three_bits, lambda x: 0.7 * _sign(x) + 0.7])
@pytest.mark.parametrize("move", MOVES)
def test_moved_levels_are_levels(move: str, levels: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.randn(2, 48, 9, 10)
    channels = {"cut": 40, "half of the channels": 24}.get(move, 48)
    model = _Layer(lambda x: MOVES[move](levels(x)), channels).eval()
    compiled = fc.compile(model, x)
    (layer,) = compiled.layers
    assert layer.method == "bitserial"
    assert_close(compiled(x), model(x), TOLERANCE)


@pytest.mark.parametrize("name", WRITTEN)
def test_few_levels_are_found_as_people_write_them(name: str) -> None:
    _assert_on_bits(_Layer(WRITTEN[name], 48, padding=1), torch.randn(2, 48, 9, 10))


@pytest.mark.parametrize("name", NEARLY)
def test_what_nearly_has_few_levels_says_why_not(name: str) -> None:
    activation, reason = NEARLY[name]
    (layer,) = fc.compile(_Layer(activation, 48, padding=1).eval(), torch.randn(2, 48, 9, 10)).layers
    assert layer.method == "dense"
    assert reason in layer.reason


@pytest.mark.parametrize(
    "activation",
    [
        lambda x: ((x >= 0).to(torch.uint8) - (x < 0).to(torch.uint8)).float(),
        lambda x: (torch.where(x >= 0, 1, -100).to(torch.int8) - torch.where(x < 0, 100, 1).to(torch.int8)).float(),
    ],
)  # fmt: skip
def test_differences_that_wrap_around_are_computed(
    activation: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """A number that its integers do not hold is another one: 0 - 1 is 255."""
    model, x = _Layer(activation, 48).eval(), torch.randn(1, 48, 9, 9)
    compiled = fc.compile(model, x)
    assert [layer.method for layer in compiled.layers] == ["dense"]
    assert_close(compiled(x), model(x), 2e-5)  # by Winograd's algorithm


def test_infinite_levels_are_none() -> None:
    model = _Layer(lambda x: torch.where(x >= 0, float("inf"), -float("inf")), 48).eval()
    (layer,) = fc.compile(model, torch.randn(1, 48, 9, 9), verify=False).layers
    assert layer.method == "dense"


def test_integers_and_masks_decide_too() -> None:
    pixels, mask = torch.randint(0, 255, (2, 48, 9, 10), dtype=torch.uint8), torch.randn(2, 48, 9, 10) > 0
    _assert_on_bits(_Layer(lambda x: torch.where(x >= 128, 1.0, -1.0), 48), pixels)
    _assert_on_bits(_Layer(lambda x: torch.where(x, 1.0, -1.0), 48), mask)


def test_a_one_dimensional_convolution_reads_signs() -> None:
    torch.manual_seed(0)
    layer = nn.Conv1d(48, 48, 3, padding=1)
    layer.weight.data.sign_()
    _assert_on_bits(nn.Sequential(_Sign(), layer), torch.randn(2, 48, 99))


def _assert_on_bits(model: nn.Module, x: torch.Tensor) -> None:
    compiled = fc.compile(model.eval(), x)
    (layer,) = compiled.layers
    assert layer.method == "bitserial"
    assert_close(compiled(x), model(x), TOLERANCE)


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
