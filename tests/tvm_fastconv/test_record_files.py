"""Which records compile reads."""

import warnings
from collections import Counter
from pathlib import Path

import pytest

from tvm_fastconv import record_files
from tvm_fastconv.autotune.records import Verdict, read_records
from tvm_fastconv.machine_files import target_and_machine
from tvm_fastconv.record_files import SHIPPED, VARIABLE, records_for

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
