import importlib.util

import pytest
import torch

from benchmarks import layer_times, memory
from benchmarks.networks import NETWORKS, make_network


def test_all_cnn_c_is_the_published_network():
    module, inputs = make_network("all_cnn_c", batch=2)
    assert sum(p.numel() for p in module.parameters()) == 1369738  # 1.4 M in the paper
    assert module(*inputs).shape == (2, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_neither_fade_nor_explode(name):
    if name != "all_cnn_c" and importlib.util.find_spec("torchvision") is None:
        pytest.skip("needs torchvision")
    module, inputs = make_network(name)
    with torch.inference_mode():
        output = module(*inputs)
    assert not module.training
    assert 1e-3 < output.abs().max() < 1e3


def test_networks_are_the_same_every_time():
    (first, x), (second, y) = make_network("all_cnn_c"), make_network("all_cnn_c")
    assert torch.equal(x[0], y[0])
    assert torch.equal(first[0].weight, second[0].weight)


def test_largest_activations_are_of_one_layer():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 1, 1))
    assert memory.largest_activations(module, (torch.zeros(1, 3, 5, 5),)) == 4 * 25 * 16


def test_layers_are_paired_by_name_and_nothing_is_lost():
    ours = {"conv1": 1.0, "reorder_0": 0.5}
    theirs = {"conv1": ("jit", 2.0), "MaxPool pool": ("jit_pool", 0.25)}
    assert layer_times.pair(ours, theirs) == [
        ("conv1", 1.0, 2.0, "jit"),
        ("reorder_0", 0.5, None, ""),
        ("MaxPool pool", None, 0.25, "jit_pool"),
    ]


def test_openvinos_layers_carry_module_names():
    pytest.importorskip("openvino")
    module, inputs = make_network("all_cnn_c")
    layers = layer_times.openvino_layers(module, inputs, threads=1)
    convolutions = [name for name, layer in module.named_modules() if isinstance(layer, torch.nn.Conv2d)]
    assert set(convolutions) <= set(layers)
    assert all(milliseconds > 0 for _, milliseconds in layers.values())
