import numpy as np
import pytest
import torch

from benchmarks import bench_grouped as bench
from benchmarks import results, runner
from benchmarks.grouped_networks import CONV, GroupedLayer, GroupedNetwork
from tvm_fastconv.measure import roofline

SETTINGS = runner.Settings(engines=(runner.OURS,), repeats=3, min_time=0.001)
NETWORK = GroupedNetwork("small", 8, ((24, 1),))


class _Uncompiled:
    """PyTorch runs what `runner.Ours` would have compiled, and its layer takes a millisecond."""

    def __init__(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], _: runner.Settings) -> None:
        self._module, self._inputs = module, inputs

    def __call__(self) -> np.ndarray:
        with torch.no_grad():
            return self._module(*self._inputs).numpy()

    def layers_ms(self) -> dict[str, float]:
        return {CONV: 1.0}


class _Probe:
    best_rate = 10.0  # GFLOP/s

    def run(self) -> None:
        pass


def test_layers_and_networks_are_printed_and_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []
    monkeypatch.setattr(runner, "Ours", _Uncompiled)
    monkeypatch.setattr(roofline, "build_library", lambda isa: None)
    monkeypatch.setattr(roofline, "fma_probe", lambda library: _Probe())
    monkeypatch.setattr(results, "write_results", lambda *document: written.append(document))
    layer = GroupedLayer(width=8, groups=3, stride=2, size=8)
    rows = bench.run(SETTINGS, (layer, NETWORK), True)
    ((name, _, rows_written, extra),) = written
    assert (name, rows_written) == ("grouped", rows)
    assert rows[0].facts == {"macs": 9 * 8 * 8 * 3 * 16}
    # 27 648 multiply-adds in a millisecond, at 10 GFLOP/s; a network is no single layer.
    assert extra == {"kernel_shares_of_peak": [2 * 27648 / 1e6 / 10, None]}
    assert "3 groups of 8, 8x8/2" in capsys.readouterr().out
