import pytest
import torch
from torch import nn

from tvm_fastconv.train.models import DIGITS_NETWORKS, DigitsNet, LookupDigitsNet, SeparableDigitsNet

INNER = ("block1", "block2", "block3")


@pytest.mark.parametrize("method", DIGITS_NETWORKS)
def test_every_network_maps_images_to_scores(method: str) -> None:
    assert DIGITS_NETWORKS[method]().eval()(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


@pytest.mark.parametrize("width", [8, 20])
def test_digits_net_maps_images_to_scores(width: int) -> None:
    model = DigitsNet(width).eval()
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert model.classifier.in_features == 2 * width


def test_layers_have_readable_names() -> None:
    assert _convolutions(DigitsNet()) == ["stem.conv", "block1.conv", "block2.conv", "block3.conv"]


def test_lookup_digits_net_maps_images_to_scores() -> None:
    model = LookupDigitsNet(8, (3, 4, 5)).eval()
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert [block.conv.lookups.in_channels for block in (model.block1, model.block2, model.block3)] == [
        3,
        4,
        5,
    ]


@pytest.mark.parametrize(
    ("method", "parts", "parameters"),
    [
        ("spatial", ["column", "row"], 3 * (32 * (32 + 32) + 64 * (32 + 64) + 64 * (64 + 64))),
        ("cp", ["first", "column", "row", "last"], 32 * (32 + 6 + 32) + 32 * (32 + 6 + 64) + 64 * (64 + 6 + 64)),
        ("separable", ["depthwise", "pointwise"], 32 * (9 + 2 + 32) + 32 * (9 + 2 + 64) + 64 * (9 + 2 + 64)),
        ("fixed", ["pointwise"], 5 * (32 * 32 + 32 * 64 + 64 * 64)),
    ],
)  # fmt: skip
def test_inner_convolutions_are_replaced_and_the_first_is_not(
    method: str, parts: list[str], parameters: int
) -> None:
    model = DIGITS_NETWORKS[method]()
    assert isinstance(model, SeparableDigitsNet)
    assert _convolutions(model) == [
        "stem.conv",
        *(f"{block}.conv.{part}" for block in INNER for part in parts),
    ]
    assert sum(p.numel() for block in INNER for p in getattr(model, block).conv.parameters()) == parameters


def _convolutions(model: nn.Module) -> list[str]:
    return [name for name, part in model.named_modules() if isinstance(part, nn.Conv2d)]
