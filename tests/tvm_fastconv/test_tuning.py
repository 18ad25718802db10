"""Tuning a model: what it adds to the records, and what compile makes of them."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.autotune.candidate import Candidate, Device
from tvm_fastconv.autotune.model_times import ModelTimes
from tvm_fastconv.autotune.records import Verdict, append_records, read_records
from tvm_fastconv.errors import ArtifactError, InputError
from tvm_fastconv.prepare import prepare
from tvm_fastconv.record_files import VARIABLE
from tvm_fastconv.topi.operators import operator_of
from tvm_fastconv.tuned_network import TunedNetwork

from ..autotune.fake import DEVICE, FakeRunner, landscape
from ..close import assert_close

X = torch.randn(1, 8, 12, 12, generator=torch.Generator().manual_seed(0))


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 40, 3, 2, 1), nn.ReLU(), nn.Conv2d(40, 24, 1), nn.ReLU(), nn.Conv2d(24, 24, 1)
    ).eval()


class Fast(FakeRunner):
    """Some knobs are much faster than the default."""

    def __init__(self) -> None:
        super().__init__(self._seconds)

    def _seconds(self, candidate: Candidate) -> float:
        kind = operator_of(self.device.machine.kind, candidate.task.op).knobs
        default = kind.default(candidate.task.problem, self.device.machine)
        return landscape(candidate) * (1.0 if candidate.knobs != default else 3.0)


def test_compile_takes_what_tuning_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, runner = tmp_path / "r.jsonl", Fast()
    monkeypatch.setattr(runner, "device", _native(threads=1))
    found = fc.tune(_model(), X, records=path, trials=60, threads=1, runner=runner)
    assert found.trials == 60
    assert [line for line in read_records(path) if isinstance(line, Verdict)] == list(found.verdicts)
    chosen = {verdict.op: verdict.knobs for verdict in found.verdicts if verdict.ratio > 1}
    assert chosen
    plain = fc.compile(_model(), X, threads=1)
    tuned = fc.compile(_model(), X, records=path, threads=1)
    assert {layer.schedule for layer in tuned.layers} & set(chosen.values())
    assert {layer.source for layer in plain.layers} == {"default"}
    assert {layer.source for layer in tuned.layers} == {"record"}
    assert {layer.gain for layer in plain.layers} == {None}
    gains = {(verdict.knobs, verdict.ratio) for verdict in found.verdicts}
    assert {(layer.schedule, layer.gain) for layer in tuned.layers} <= gains
    assert [layer.schedule for layer in tuned.layers] != [layer.schedule for layer in plain.layers]
    assert_close(tuned(X), _model()(X), 1e-5)  # sums of up to 72 terms, in float32
    monkeypatch.setenv(VARIABLE, str(path))
    by_variable = fc.compile(_model(), X, threads=1)
    assert [layer.schedule for layer in by_variable.layers] == [layer.schedule for layer in tuned.layers]
    with pytest.warns(UserWarning, match="no record is for .* 2 threads.*has some for .* 1 thread"):
        other = fc.compile(_model(), X, threads=2)
    assert [layer.schedule for layer in other.layers] == [layer.schedule for layer in plain.layers]


@pytest.mark.slow
@pytest.mark.native
def test_this_machine_tunes(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    found = fc.tune(_model(), X, records=path, trials=10, threads=1)
    assert found.trials == 10
    assert all(line.processor for line in read_records(path))
    assert {verdict.op for verdict in found.verdicts} >= {"conv2d"}
    tuned = fc.compile(_model(), X, records=path, threads=1)
    assert_close(tuned(X), _model()(X), 1e-5)  # sums of up to 72 terms, in float32


def test_a_model_that_is_slower_with_its_records_withdraws_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, runner = tmp_path / "r.jsonl", Fast()
    monkeypatch.setattr(runner, "device", _native(threads=1))
    usual = runner.time_models

    def slower(*arguments: object) -> list[ModelTimes]:
        untuned, tuned = usual(*arguments)  # type: ignore[arg-type]
        return [untuned, ModelTimes([1.1] * 21, tuned.layers)]

    monkeypatch.setattr(runner, "time_models", slower)
    found = fc.tune(_model(), X, records=path, trials=40, threads=1, runner=runner)
    assert found.network is not None
    assert found.network.high < 1
    assert found.withdrawn
    assert any(verdict.ratio > 1 for verdict in found.verdicts)
    plain = fc.compile(_model(), X, threads=1)
    tuned = fc.compile(_model(), X, records=path, threads=1)
    assert [layer.schedule for layer in tuned.layers] == [layer.schedule for layer in plain.layers]


def test_a_layer_that_is_slower_with_its_record_loses_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, runner = tmp_path / "r.jsonl", Fast()
    monkeypatch.setattr(runner, "device", _native(threads=1))
    usual, rounds = runner.time_models, list[list[str]]()

    def slower(models: list, inputs: list, turns: int) -> list[ModelTimes]:
        """In the first round, the first layer that was changed."""
        untuned, tuned = usual(models, inputs, turns)
        both = zip(*(model.layers for model in models), strict=True)
        rounds.append([after.name for before, after in both if before.schedule != after.schedule])
        late = {rounds[0][0]: [1.1] * turns} if len(rounds) == 1 else {}
        return [untuned, ModelTimes(tuned.whole, tuned.layers | late)]

    monkeypatch.setattr(runner, "time_models", slower)
    found = fc.tune(_model(), X, records=path, trials=60, threads=1, runner=runner)
    first, second = rounds
    assert len(found.withdrawn) == 1
    assert second == first[1:]
    gains = {layer.name: layer.gain for layer in fc.compile(_model(), X, records=path, threads=1).layers}
    assert gains[first[0]] is None
    assert all(gains[name] for name in second)


def test_several_files_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Fast()
    monkeypatch.setattr(runner, "device", _native(threads=1))
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    found = fc.tune(_model(), X, records=first, trials=40, threads=1, runner=runner)
    kept = next(verdict for verdict in found.verdicts if verdict.ratio > 1)
    problem = operator_of(runner.device.machine.kind, kept.op).problem.from_key(kept.problem)
    default = operator_of(runner.device.machine.kind, kept.op).knobs.default(problem, runner.device.machine)
    append_records(second, [dataclasses.replace(kept, knobs=default.to_json())])

    def schedules(*files: Path) -> set[str]:
        compiled = fc.compile(_model(), X, records=files, threads=1)
        return {layer.schedule for layer in compiled.layers}

    assert kept.knobs in schedules(first)
    assert kept.knobs not in schedules(first, second)
    assert kept.knobs in schedules(second, first)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"trials": 0}, "trials is 0; allowed: more than 0"),
        ({"seconds": -1.0}, "seconds is -1.0; allowed: more than 0"),
        ({"seconds": float("nan")}, "seconds is nan; allowed: more than 0"),
        ({"threads": 0}, "threads is 0; allowed:"),
        ({"target": "aarch64-linux-gnu"}, "this machine cannot run what is compiled for aarch64-linux-gnu"),
    ],
)
def test_what_cannot_be_is_one_message(asked: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        fc.tune(_model(), X, **{"records": tmp_path / "r.jsonl"} | asked)
    assert not (tmp_path / "r.jsonl").exists()


def test_records_that_cannot_be_written_are_said_at_once(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "r.jsonl", tmp_path / "a\0b"):
        with pytest.raises(ArtifactError, match="cannot write "):
            fc.tune(_model(), X, records=path, trials=1)


def _native(threads: int) -> Device:
    from tvm_fastconv.machine_files import target_and_machine
    from tvm_fastconv.targets import spec_of

    target, machine = target_and_machine("native")
    return Device(spec_of(target), machine, threads)


def test_a_network_says_what_runs_and_how_much_memory_it_touches() -> None:
    network = TunedNetwork(prepare(_model(), X, DEVICE.target, DEVICE.machine, None))
    found = network.dispatched({})
    assert set(found.calls) <= set(found.compared)
    assert sum(count for asked, count in found.calls.items() if asked.op != "transpose") == 3
    parameters = 4 * sum(p.numel() for p in _model().parameters())
    planes = 4 * (40 * 36 + 24 * 36 + 24 * 36)
    assert parameters + planes <= found.footprint <= 2 * (parameters + planes)
