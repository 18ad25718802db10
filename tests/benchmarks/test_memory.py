import pytest

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
    assert figures["import_seconds"] < 0.3
    memory.print_figures([figures])
    assert "all_cnn_c" in capsys.readouterr().out


def test_a_failing_process_shows_its_error():
    with pytest.raises(RuntimeError, match="no such network"):
        memory._run("raise ValueError('no such network')")
