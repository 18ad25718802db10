"""Which records compile reads."""

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tvm_fastconv import record_files
from tvm_fastconv.artifact.elf import process_machine
from tvm_fastconv.autotune.candidate import Device
from tvm_fastconv.autotune.conditions import conditions_of
from tvm_fastconv.autotune.records import Verdict, append_records, read_records
from tvm_fastconv.machine_files import target_and_machine
from tvm_fastconv.record_files import SHIPPED, VARIABLE, records_for, threads_for
from tvm_fastconv.runtime import threads
from tvm_fastconv.targets import resolve_target, spec_of

FOLDER = Path(record_files.__file__).with_name("records")


def test_shipped_records_are_verdicts_and_say_their_processor() -> None:
    files = sorted(FOLDER.glob("*.jsonl"))
    assert files
    for file in files:
        lines = read_records(file)
        assert lines
        assert all(isinstance(line, Verdict) and line.processor for line in lines)
        assert {line.conditions.cpu.split()[0] for line in lines} == {f"-mcpu={file.stem}"}
        assert max(Counter((line.task, line.conditions) for line in lines).values()) == 1


def test_shipped_records_have_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = "x86_64-linux-gnu -mcpu=znver4 -mattr=-prefer-256-bit -num-cores=2"
    target, machine = target_and_machine(cpu)
    lines = read_records(FOLDER / "znver4.jsonl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are for other versions, where they are
        found = records_for(SHIPPED, target, machine, threads=1)
        assert set(found) <= {line.task for line in lines}
        assert records_for((), target, machine, threads=1) == {}
        monkeypatch.setenv(VARIABLE, SHIPPED)
        assert records_for(None, target, machine, threads=1) == found


def test_another_machines_records_are_of_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as this machine has cores say nothing of it."""
    monkeypatch.setattr(threads, "default_threads", lambda: 3)
    here, elsewhere = resolve_target("native"), resolve_target("cortex-a72")
    if process_machine() == "aarch64":
        elsewhere = resolve_target("x86-64-v3")
    assert threads_for(None, here) == 3
    assert threads_for(None, elsewhere) == 1
    assert threads_for(4, elsewhere) == threads_for(4, here) == 4


def test_of_records_of_other_threads_the_remedy_is_told(tmp_path: Path) -> None:
    target, machine = target_and_machine("cortex-a72")
    told = conditions_of(Device(spec_of(target), machine, 4))
    verdict = next(line for line in read_records(FOLDER / "znver4.jsonl") if isinstance(line, Verdict))
    append_records(tmp_path / "r.jsonl", [replace(verdict, conditions=told)])
    with pytest.warns(
        UserWarning, match="no record is for -mcpu=cortex-a72, 1 thread, .*; threads=4 takes those"
    ):
        assert records_for(tmp_path / "r.jsonl", target, machine, None) == {}
    assert records_for(tmp_path / "r.jsonl", target, machine, 4)


def test_targets_without_a_cpu_are_told_apart() -> None:
    """By their triple."""
    cpus = [
        conditions_of(Device(spec_of(target_and_machine(triple)[0]), target_and_machine(triple)[1], 1)).cpu
        for triple in ("aarch64-linux-gnu", "x86_64-linux-gnu")
    ]
    assert cpus == ["aarch64-linux-gnu", "x86_64-linux-gnu"]
