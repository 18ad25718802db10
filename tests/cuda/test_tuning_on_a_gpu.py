"""Tuning on the GPU that will run the model, and by batches for one that is elsewhere.

Where there is no GPU, `test_stand_in.py` runs this too.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.autotune.candidate import Candidate, Task
from tvm_fastconv.autotune.local_runner import LocalRunner
from tvm_fastconv.autotune.records import Trial, Verdict, read_records
from tvm_fastconv.errors import InputError, TargetError
from tvm_fastconv.machine_files import target_and_machine
from tvm_fastconv.record_files import device_for
from tvm_fastconv.runtime.gpu import compute_capability, device_name, gpu_obstacle
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.gpu import Gpu
from tvm_fastconv.topi.knobs import KnobSet
from tvm_fastconv.topi.operators import operator_of

from .stand_in import BREAKS_THE_GPU, SPILLED, is_stand_in

REASON = gpu_obstacle((compute_capability() or 90,))

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(REASON is not None, reason=str(REASON))]
stand_in_alone = pytest.mark.skipif(not is_stand_in(), reason="a GPU does not break on request")


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    ).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(1, 3, 10, 10)


def tried() -> tuple[Task, list[KnobSet], Gpu]:
    """A convolution and some of its knobs for the GPU that is here, the default first."""
    _, machine = target_and_machine("cuda")
    assert isinstance(machine, Gpu)
    conv = Conv2dParams(kernel=(3, 3), out_channels=16, padding=(1, 1, 1, 1), data_layout="NHWC")
    task = Task("conv2d", ConvProblem(channels=8, height=10, width=10, conv=conv))
    kind = operator_of("cuda", task.op).knobs
    default = kind.default(task.problem, machine)
    assert default is not None
    others = [knobs for knobs in kind.space(task.problem, machine) if knobs != default]
    return task, [default, *others[:3]], machine


@contextlib.contextmanager
def local_runner():  # type: ignore[no-untyped-def]
    target, machine = target_and_machine("cuda")
    with contextlib.closing(LocalRunner(device_for(target, machine, None), workers=1)) as runner:
        yield runner


def test_a_network_is_tuned_and_compiled_with_what_was_found(images: torch.Tensor, tmp_path: Path) -> None:
    path, model = tmp_path / "records.jsonl", network()
    found = fc.tune(model, images, target="cuda", records=path, trials=8)
    assert found.trials == 8
    lines = read_records(path)
    trials = [line for line in lines if isinstance(line, Trial)]
    assert [trial.error for trial in trials] == [None] * 8
    assert {line.conditions.cpu for line in lines} == {target_and_machine("cuda")[1].name}
    assert {line.processor for line in lines} == {device_name()}
    assert {line.op for line in lines if isinstance(line, Verdict)} >= {"conv2d", "dense"}
    compiled = fc.compile(model, images, target="cuda", records=path)
    assert compiled.manifest.verify.startswith("verified against PyTorch")


@pytest.mark.skipif((compute_capability() or 90) < 80, reason="this GPU has no TF32")
def test_layers_in_tf32_are_tuned_on_request(tmp_path: Path) -> None:
    model, path = nn.Sequential(nn.Conv2d(16, 32, 3, 1, 1), nn.ReLU()).eval(), tmp_path / "records.jsonl"
    images = torch.randn(1, 16, 10, 10)
    for allowed in (False, True):
        fc.tune(model, images, target="cuda", records=path, trials=3, allow_tf32=allowed)
        ops = {line.op for line in read_records(path) if isinstance(line, Trial) and line.error is None}
        assert ("tf32_conv2d" in ops) == allowed


def test_candidates_are_timed_alone_and_as_in_a_network() -> None:
    task, knobs, _ = tried()
    candidates = [Candidate(task, each) for each in knobs]
    with local_runner() as runner:
        outcomes = runner.run(candidates)
        assert [outcome.error for outcome in outcomes] == [None] * 4
        assert all(outcome.seconds > 0 for outcome in outcomes)
        times = runner.compare(candidates[:2], 3, 1 << 20)
    assert times is not None
    assert [len(each) for each in times] == [3, 3]
    assert all(seconds > 0 for each in times for seconds in each)


@stand_in_alone
def test_kernels_that_spill_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    task, (default, *_), _ = tried()
    monkeypatch.setenv(SPILLED, "17")
    with local_runner() as runner:
        (outcome,) = runner.run([Candidate(task, default)])
    assert outcome.error == "it needs more registers than there are: some of its values go through memory"


@stand_in_alone
def test_a_candidate_that_breaks_the_gpu_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, knobs, _ = tried()
    trigger = tmp_path / "trigger"
    monkeypatch.setenv(BREAKS_THE_GPU, str(trigger))
    with local_runner() as runner:
        assert runner.run([Candidate(task, knobs[0])])[0].error is None
        trigger.touch()
        outcomes = runner.run([Candidate(task, each) for each in knobs[1:]])
    assert [outcome.error is None for outcome in outcomes] == [False, True, True]


def measured(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(folder / "measure.pyz")],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_batches_go_to_a_gpu_and_come_back(images: torch.Tensor, tmp_path: Path) -> None:
    model, asked = network(), {"target": "cuda", "records": tmp_path / "records.jsonl"}
    first = fc.export_batch(model, images, folder=tmp_path / "first", trials=6, **asked)
    assert (first.jobs, first.failed) == (6, 0)
    measured(tmp_path / "first")
    found = fc.import_batch(model, images, results=tmp_path / "first" / "results.json", **asked)
    assert (found.trials, found.failures) == (6, {})
    fc.export_batch(model, images, folder=tmp_path / "second", trials=1, **asked)
    measured(tmp_path / "second")
    found = fc.import_batch(model, images, results=tmp_path / "second" / "results.json", **asked)
    assert {verdict.op for verdict in found.verdicts} >= {"conv2d", "dense"}


@stand_in_alone
def test_a_batch_goes_on_behind_what_breaks_the_gpu(
    images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, trigger = tmp_path / "batch", tmp_path / "trigger"
    fc.export_batch(network(), images, target="cuda", records=tmp_path / "records", folder=folder, trials=4)
    monkeypatch.setenv(BREAKS_THE_GPU, str(trigger))
    trigger.touch()
    measured(folder)
    results = json.loads((folder / "results.json").read_text())["results"]
    assert [result["error"] is None for result in results] == [False, True, True, True]


def test_a_compiler_that_fails_is_no_candidates_fault(
    images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("NVCC", str(nvcc))
    asked = {"target": "cuda", "records": tmp_path / "records.jsonl", "trials": 2}
    with pytest.raises(TargetError, match="ended with 1"):
        fc.tune(network(), images, **asked)
    with pytest.raises(TargetError, match="ended with 1"):
        fc.export_batch(network(), images, folder=tmp_path / "batch", **asked)
    assert not (tmp_path / "records.jsonl").exists()
    assert not (tmp_path / "batch").exists()


@stand_in_alone
def test_another_gpu_is_not_tuned_for(images: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its Stand-in GPU is sm_90, not sm_89"):
        fc.tune(network(), images, target="cuda -gpu=l4", records=tmp_path / "records.jsonl", trials=1)
    fc.export_batch(
        network(), images, target="cuda -gpu=l4", records=tmp_path / "r", folder=tmp_path / "b", trials=1
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "b" / "measure.pyz")], capture_output=True, text=True, check=False
    )
    assert "it is for a GPU of sm_89, and this one is sm_90" in done.stderr


def test_no_program_measures_on_a_gpu(images: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no static program can measure on a GPU"):
        fc.export_batch(
            network(), images, target="cuda", records=tmp_path / "r", folder=tmp_path / "b", program=True
        )
