import dataclasses
import json

import pytest
import torch

from benchmarks import results, runner
from benchmarks.runner import OURS, Case, Measured, Row, Settings, compare, geometric_mean

CASE = Case(name="net", make=lambda: (_scale(2.0), (torch.ones(1, 3),)), facts={"batch": 1})
SETTINGS = Settings(engines=("torch", "torch_channels_last"), repeats=2, min_time=0.0)


def _scale(factor):
    class Scale(torch.nn.Module):
        def forward(self, x):
            return x * factor

    return Scale()


def _timed(*samples_ms):
    middle = sorted(samples_ms)[len(samples_ms) // 2]
    return Measured(status="ok", median_ms=middle, best_ms=min(samples_ms), spread=0.0, samples_ms=samples_ms)


def test_ratio_is_the_best_rivals_time_over_ours():
    row = compare(
        CASE, {OURS: _timed(2.0, 2.0, 4.0), "slow": _timed(9.0, 9.0, 9.0), "fast": _timed(3.0, 3.0, 4.0)}
    )
    assert row.best_rival == "fast"
    assert row.ratio == pytest.approx(1.5)
    assert row.ratio_quartiles == pytest.approx((1.25, 1.5))  # of 1.5, 1.5 and 1.0, turn by turn


def test_no_ratio_without_a_rival_or_without_ours():
    assert compare(CASE, {OURS: _timed(1.0), "absent": Measured(status="absent")}).ratio is None
    row = compare(CASE, {OURS: Measured(status="failed", detail="why"), "fast": _timed(1.0)})
    assert (row.ratio, row.best_rival) == (None, "fast")


def test_geometric_mean_refuses_to_leave_failures_out():
    rows = [Row(case="a", facts={}, engines={}, ratio=2.0), Row(case="b", facts={}, engines={}, ratio=0.5)]
    assert geometric_mean(rows) == pytest.approx(1.0)
    assert geometric_mean([*rows, Row(case="c", facts={}, engines={})]) is None
    assert geometric_mean([]) is None


def test_measure_times_the_engines_and_what_stands_beside_them():
    calls = []
    row = runner.measure(CASE, SETTINGS, {"peak": lambda: calls.append(0)})
    assert [row.engines[name].status for name in SETTINGS.engines] == ["ok", "ok"]
    assert all(len(row.engines[name].samples_ms) == SETTINGS.repeats for name in SETTINGS.engines)
    assert len(calls) >= 2 * SETTINGS.repeats
    assert set(row.engines) == set(SETTINGS.engines)


class _Doubles:
    """Stands for our compiled model."""

    error = 0.0

    def __init__(self, module, inputs, settings):
        self._inputs = inputs

    def __call__(self):
        return self._inputs[0] * 2 * (1 + self.error)

    def layers_ms(self):
        return {"conv": 0.5}


class _Wrong(_Doubles):
    error = 0.001


class _Fails(_Doubles):
    def __call__(self):
        raise RuntimeError("no such layer")


def test_ours_is_measured_with_its_layers(monkeypatch):
    monkeypatch.setattr(runner, "Ours", _Doubles)
    row = runner.measure(CASE, Settings(engines=(OURS, "torch"), repeats=2, min_time=0.0))
    assert row.engines[OURS].layers_ms == {"conv": 0.5}
    assert row.ratio == pytest.approx(row.engines["torch"].median_ms / row.engines[OURS].median_ms)


@pytest.mark.parametrize(("ours", "status"), [(_Wrong, "wrong"), (_Fails, "failed")])
def test_a_faulty_engine_is_reported_and_the_others_are_timed(monkeypatch, ours, status):
    monkeypatch.setattr(runner, "Ours", ours)
    row = runner.measure(CASE, Settings(engines=(OURS, "torch"), repeats=2, min_time=0.0))
    assert row.engines[OURS].status == status
    assert row.engines[OURS].detail
    assert row.engines[OURS].median_ms is None
    assert row.engines["torch"].median_ms > 0
    assert row.ratio is None


def test_an_engine_that_cannot_be_limited_is_absent_from_a_limited_run():
    row = runner.measure(
        CASE, Settings(engines=("torch", "onnxruntime"), repeats=1, min_time=0.0, isa="avx2")
    )
    assert row.engines["onnxruntime"].status == "absent"
    assert "cannot be limited" in row.engines["onnxruntime"].detail


def test_a_case_brings_rivals_of_its_own():
    twice = torch.full((1, 3), 2.0)
    rivals = {"right": lambda: lambda: twice, "wrong": lambda: lambda: twice + 1}
    case = dataclasses.replace(CASE, rivals=rivals)
    row = runner.measure(case, Settings(engines=("torch",), repeats=2, min_time=0.0))
    assert {name: m.status for name, m in row.engines.items()} == {
        "torch": "ok",
        "right": "ok",
        "wrong": "wrong",
    }
    assert len(row.engines["right"].samples_ms) == 2


def test_results_hold_figures_and_conditions(tmp_path, capsys):
    rows = [
        compare(CASE, {OURS: _timed(2.0, 2.0), "fast": _timed(3.0, 3.0), "gone": Measured(status="absent")})
    ]
    path = results.write_results("nets", SETTINGS, rows, {"peaks": {"fma_gflops": 1.0}}, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["nets.json"]
    document = json.loads(path.read_text())
    assert set(document) == {"name", "conditions", "geometric_mean", "rows", "peaks"}
    assert set(document["conditions"]) >= {
        "date",
        "cpu",
        "threads",
        "versions",
        "isa",
        "repeats",
        "load_average",
    }
    assert document["conditions"]["versions"]["torch"] == torch.__version__
    (row,) = document["rows"]
    assert (row["case"], row["facts"], row["ratio"], row["best_rival"]) == ("net", {"batch": 1}, 1.5, "fast")
    assert set(row["engines"][OURS]) >= {"status", "median_ms", "best_ms", "spread", "samples_ms", "error"}
    assert row["engines"]["gone"]["median_ms"] is None
    assert capsys.readouterr().out == ""


def test_table_says_why_an_engine_has_no_time(capsys):
    rows = [
        compare(
            CASE, {OURS: _timed(2.0), "fast": _timed(3.0), "gone": Measured(status="absent", detail="lost")}
        )
    ]
    results.print_table("title", rows, {"extra": ["42"]})
    printed = capsys.readouterr().out
    for piece in (
        "net",
        "2.000",
        "3.000",
        "1.50",
        "42",
        "gone: absent: lost",
        "geometric mean of the ratios: 1.50",
    ):
        assert piece in printed


def test_ours_is_timed_by_layer():
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU()).eval()
    ours = runner.Ours(module, (torch.ones(1, 1, 5, 5),), SETTINGS)
    assert ours.layers_ms(repeat=1)["0"] > 0
