import pytest
import torch

from benchmarks import layer_times
from benchmarks.networks import make_network


def test_layers_are_paired_by_name_and_nothing_is_lost(capsys):
    ours = {"conv1": 1.0, "reorder_0": 0.5}
    theirs = {"conv1": 2.0, "MaxPool pool": 0.25}
    assert layer_times.pair(ours, theirs) == [
        ("conv1", 1.0, 2.0),
        ("reorder_0", 0.5, None),
        ("MaxPool pool", None, 0.25),
    ]
    layer_times.print_layers("title", ours, theirs, {"conv1": "jit"})
    printed = capsys.readouterr().out
    for piece in ("conv1", "reorder_0", "MaxPool pool", "2.00", "jit", "1.500", "2.250"):
        assert piece in printed


def test_best_turn_counts_layer_by_layer(monkeypatch):
    monkeypatch.setattr(layer_times, "TURNS", 2)
    ours = iter([{"a": 1.0, "b": 5.0}, {"a": 2.0, "b": 4.0}])
    assert layer_times.best_turns([lambda: next(ours), lambda: {"a": 3.0}]) == [
        {"a": 1.0, "b": 4.0},
        {"a": 3.0},
    ]


def test_openvinos_layers_carry_module_names():
    pytest.importorskip("openvino")
    module, inputs = make_network("all_cnn_c")
    openvino = layer_times.OpenVinoLayers(module, inputs, threads=1)
    times = openvino()
    convolutions = {name for name, layer in module.named_modules() if isinstance(layer, torch.nn.Conv2d)}
    assert convolutions <= set(times)
    assert all(times[name] > 0 and openvino.implementations[name] for name in convolutions)
