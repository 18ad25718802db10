import pytest
import torch

from tvm_fastconv.train.models import DigitsNet, LookupDigitsNet


@pytest.mark.parametrize("width", [8, 20])
def test_digits_net_maps_images_to_scores(width: int) -> None:
    model = DigitsNet(width).eval()
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert model.classifier.in_features == 2 * width


def test_layers_have_readable_names() -> None:
    convolutions = [name for name, part in DigitsNet().named_modules() if isinstance(part, torch.nn.Conv2d)]
    assert convolutions == ["stem.conv", "block1.conv", "block2.conv", "block3.conv"]


def test_lookup_digits_net_maps_images_to_scores() -> None:
    model = LookupDigitsNet(8, (3, 4, 5)).eval()
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert [block.conv.lookups.in_channels for block in (model.block1, model.block2, model.block3)] == [
        3,
        4,
        5,
    ]
