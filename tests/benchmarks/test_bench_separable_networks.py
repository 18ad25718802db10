import numpy as np
import pytest
import torch

from benchmarks import bench_separable_networks as bench
from benchmarks import results, runner
from benchmarks.separable_networks import SeparableNetwork

SETTINGS = runner.Settings(engines=(runner.OURS,), repeats=3, min_time=0.001)


class _Uncompiled:
    """PyTorch runs what `runner.Ours` would have compiled."""

    def __init__(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], _: runner.Settings) -> None:
        self._module, self._inputs = module, inputs

    def __call__(self) -> np.ndarray:
        with torch.no_grad():
            return self._module(*self._inputs).numpy()

    def layers_ms(self) -> dict[str, float]:
        return {}


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "Ours", _Uncompiled)


def test_the_designed_network_takes_turns_with_the_plain_one() -> None:
    (row,) = bench.speedups(SETTINGS, (bench.PLAIN, SeparableNetwork("wider", "sep"), bench.DESIGNED[3]))
    assert (row.case, row.best_rival) == ("adequately_designed cp", "all_cnn_c std")
    ours, plain = row.engines[runner.OURS], row.engines["all_cnn_c std"]
    assert row.ratio == plain.median_ms / ours.median_ms
    assert len(ours.samples_ms) == len(plain.samples_ms) == 3


@pytest.mark.parametrize("networks", [(bench.PLAIN,), bench.DESIGNED])
def test_nothing_is_compared_that_was_not_asked_for(networks: tuple[SeparableNetwork, ...]) -> None:
    assert bench.speedups(SETTINGS, networks) == []


def test_measured_networks_are_printed_and_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []
    monkeypatch.setattr(results, "write_results", lambda *document: written.append(document))
    rows = bench.run(SETTINGS, (bench.PLAIN, bench.DESIGNED[3]), True)
    ((name, _, rows_written, extra),) = written
    assert (name, rows_written) == ("separable_networks", rows)
    assert [row.engines[runner.OURS].status for row in rows] == ["ok", "ok"]
    assert rows[0].facts == {"parameters": sum(p.numel() for p in bench.PLAIN.build().parameters())}
    ((designed,),) = extra.values()
    assert designed["case"] == "adequately_designed cp"
    assert f"{designed['ratio']:.2f}" in capsys.readouterr().out
