import importlib.util

import pytest
import torch

from benchmarks.networks import NETWORKS, make_network, present


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


def test_networks_of_a_missing_package_are_named(monkeypatch, capsys):
    assert present(NETWORKS) == tuple(NETWORKS) or importlib.util.find_spec("torchvision") is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert present(["resnet18", "all_cnn_c"]) == ("all_cnn_c",)
    assert "resnet18" in capsys.readouterr().err


def test_networks_are_the_same_every_time():
    (first, x), (second, y) = make_network("all_cnn_c"), make_network("all_cnn_c")
    assert torch.equal(x[0], y[0])
    assert torch.equal(first[0].weight, second[0].weight)
