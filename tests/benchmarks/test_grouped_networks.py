import pytest
import torch
from torch import nn

from benchmarks.grouped_networks import CONV, GROUPS, LAYERS, NETWORKS, GroupedLayer


def test_every_width_has_an_odd_and_an_even_number_of_groups_and_both_strides() -> None:
    found = {(layer.width, layer.groups % 2, layer.stride) for layer in LAYERS}
    assert found == {(width, odd, stride) for width in GROUPS for odd in (0, 1) for stride in (1, 2)}
    assert len({layer.name for layer in LAYERS}) == len(LAYERS)


@pytest.mark.parametrize("stride", [1, 2])
def test_operations_are_those_of_the_groups(stride: int) -> None:
    layer = GroupedLayer(width=8, groups=13, stride=stride)
    module, (x,) = layer.make()
    conv = getattr(module, CONV)
    assert conv.weight.numel() * module(x)[0, 0].numel() == layer.macs


def test_the_network_has_the_groups_that_do_not_pair_up() -> None:
    module, (image,) = NETWORKS[0].make()
    grouped = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert [conv.groups for conv in grouped] == [6] + 3 * [13] + 6 * [26] + 6 * [55]
    assert {conv.in_channels // conv.groups for conv in grouped} == {8}
    with torch.inference_mode():
        assert 1e-3 < module(image).abs().max() < 1e3
