"""Tuning by batches: what is written for a device, and what of its results compile takes."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import tvm_fastconv as fc
from tvm_fastconv.autotune.batch_files import RESULTS
from tvm_fastconv.autotune.candidate import Device
from tvm_fastconv.autotune.conditions import conditions_of
from tvm_fastconv.autotune.records import Trial, Verdict, read_records
from tvm_fastconv.autotune.write_batch import SCRIPT
from tvm_fastconv.errors import ArtifactError, InputError
from tvm_fastconv.machine_files import target_and_machine
from tvm_fastconv.targets import resolve_target, spec_of
from tvm_fastconv.typed_json import one_line

from .test_tuning import X, _model


def _measure(folder: Path) -> Path:
    subprocess.run([sys.executable, SCRIPT], cwd=folder, check=True, capture_output=True)
    return folder / RESULTS


@pytest.mark.slow
@pytest.mark.native
def test_from_one_batch_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for turn in range(2):
        folder = tmp_path / str(turn)
        written = fc.export_batch(_model(), X, folder=folder, records=path, trials=12, threads=1)
        assert written.jobs == 12 + bool(turn) * len(
            {line.task for line in read_records(path)} if turn else ()
        )
        assert written.failed == 0
        assert written.bytes == sum(file.stat().st_size for file in folder.iterdir())
        taken = fc.import_batch(_model(), X, results=_measure(folder), records=path, threads=1)
        assert (taken.trials, taken.failures, taken.alien) == (12, {}, 0)
        assert bool(taken.verdicts) == bool(turn)
    lines = read_records(path)
    assert sum(isinstance(line, Trial) for line in lines) == 24
    assert [line for line in lines if isinstance(line, Verdict)] == list(taken.verdicts)
    tuned = fc.compile(_model(), X, records=path, threads=1)
    assert "record" in {layer.source for layer in tuned.layers}


def test_where_something_is_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is there already; a batch goes into a new folder"):
        fc.export_batch(_model(), X, folder=tmp_path, records=tmp_path / "r.jsonl")
    with pytest.raises(InputError, match="trials is 0; allowed: more than 0"):
        fc.export_batch(_model(), X, folder=tmp_path / "new", records=tmp_path / "r.jsonl", trials=0)
    assert list(tmp_path.iterdir()) == []


def _with_times(times: list) -> dict:
    knobs = ["{}"] * max(1, len(times))
    return {"results": [{"op": "conv2d", "problem": "{}", "knobs": knobs, "contest": False, "times": times}]}


WHOLE = {"conditions": "{}", "processor": "a core", "clock": 1e9, "results": []}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clock": 0.0}, "clock is 0 Hz"),
        ({"clock": "fast"}, "results.clock is 'fast'"),
        ({"results": [{}]}, r"results.results\[0\].op is missing"),
        (_with_times([]), "0 times of 1 candidates"),
        (_with_times([[]]), "no number of seconds between 1e-9 and 1e9"),
        (_with_times([[1e-10]]), "no number of seconds between 1e-9 and 1e9"),
        ({"processor": "a\x1bcore"}, "no name that can be printed"),
        (_with_times([[1.0], [1.0, 2.0]]), "different numbers of turns"),
    ],
)  # fmt: skip
def test_damaged_results_are_one_message(changes: dict, message: str, tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text(json.dumps(WHOLE | changes))
    with pytest.raises(ArtifactError, match=f"cannot read the results .*{message}"):
        fc.import_batch(_model(), X, results=tmp_path / RESULTS, records=tmp_path / "r.jsonl")
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "\x00"])
def test_what_is_no_json_is_one_message(text: str, tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text(text)
    with pytest.raises(ArtifactError, match="cannot read the results"):
        fc.import_batch(_model(), X, results=tmp_path / RESULTS, records=tmp_path / "r.jsonl")


def test_results_under_other_conditions_are_refused(tmp_path: Path) -> None:
    conditions = {"cpu": "-mcpu=old", "threads": 4, "package": "0", "tvm": "0"}
    for told, words in (
        (json.dumps(conditions), "-mcpu=old, 4 threads"),
        ("{}", "conditions of another version"),
        ("[" * 100_000, "conditions of another version"),
    ):
        (tmp_path / RESULTS).write_text(json.dumps(WHOLE | {"conditions": told}))
        with pytest.raises(InputError, match=f"the results are for {words}.*, not for "):
            fc.import_batch(_model(), X, results=tmp_path / RESULTS, records=tmp_path / "r.jsonl")


def test_results_of_another_model_are_refused(tmp_path: Path) -> None:
    conditions = conditions_of(Device(spec_of(resolve_target("native")), target_and_machine("native")[1], 1))
    fields = _with_times([[1.0]]) | {"conditions": one_line(asdict(conditions))}
    (tmp_path / RESULTS).write_text(json.dumps(WHOLE | fields))
    with pytest.raises(InputError, match="none of the 1 results is of a layer of this model"):
        fc.import_batch(_model(), X, results=tmp_path / RESULTS, records=tmp_path / "r.jsonl", threads=1)
    assert not (tmp_path / "r.jsonl").exists()


def test_times_of_an_emulator_are_remarked_on(tmp_path: Path) -> None:
    """It shows its host's processor."""
    target, machine = target_and_machine("cortex-a53")
    conditions = conditions_of(Device(spec_of(target), machine, 1))
    fields = {"conditions": one_line(asdict(conditions)), "processor": "AMD EPYC 9354 32-Core Processor"}
    (tmp_path / RESULTS).write_text(json.dumps(WHOLE | fields))
    files = {"results": tmp_path / RESULTS, "records": tmp_path / "r.jsonl"}
    with pytest.warns(UserWarning, match="these times are an emulator's: .*cortex-a53 are of AMD EPYC"):
        fc.import_batch(_model(), X, target="cortex-a53", **files)
