import pytest
import torch

from benchmarks import memory

OVERHEAD = 20e6  # bytes above weights and activations that a loaded network may take


@pytest.mark.slow
def test_a_loaded_network_takes_its_weights_and_activations_and_little_more(capsys):
    figures = memory.measure("all_cnn_c")
    weights = 1369738 * 4
    assert figures["weights"] == weights
    assert weights <= figures["file"]
    assert weights <= figures["resident"] <= weights + figures["activations"] + OVERHEAD
    assert figures["anonymous"] < weights  # they are mapped, not copied
    assert all(figures[f"{name}_seconds"] > 0 for name in ("import", "compile", "load"))
    memory.print_figures([figures])
    assert "all_cnn_c" in capsys.readouterr().out


def test_largest_activations_are_of_one_layer():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 1, 1))
    assert memory.largest_activations(module, (torch.zeros(1, 3, 5, 5),)) == 4 * 25 * 16


def test_a_failing_process_shows_its_error():
    with pytest.raises(RuntimeError, match="no such network"):
        memory._run("raise ValueError('no such network')")
