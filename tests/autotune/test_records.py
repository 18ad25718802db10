"""The file of records: what comes back, what damage costs, and who may write at once."""

import dataclasses
import json
import multiprocessing
import os
import warnings
from pathlib import Path

import pytest

from tvm_fastconv.autotune.records import (
    Line,
    Trial,
    Verdict,
    Withdrawal,
    append_records,
    from_line,
    measured,
    read_records,
    to_line,
)
from tvm_fastconv.errors import ArtifactError
from tvm_fastconv.topi.planner import Measured

from ..topi.operator_cases import ON_CPUS
from .fake import CONDITIONS, DEVICE


def _fields(name: str = "conv2d") -> dict:
    op, problem = ON_CPUS[name]
    from tvm_fastconv.topi.planner import Planner

    knobs = Planner(DEVICE.machine).planned(op, problem).knobs.to_json()
    return {"op": op, "problem": problem.key, "knobs": knobs, "conditions": CONDITIONS, "processor": "a core"}


def _trial(seconds: float | None = 1e-5, **more: object) -> Trial:
    return Trial(**_fields() | {"seconds": seconds} | more)


def _verdict(seconds: float = 1e-5, **more: object) -> Verdict:
    times = {
        "seconds": seconds,
        "default_seconds": 2e-5,
        "ratio": 2.0,
        "low": 1.9,
        "high": 2.1,
        "cycles": 3e4,
    }
    if "ratio" in more:
        times |= {"low": 0.9 * more["ratio"], "high": 1.1 * more["ratio"]}  # type: ignore[operator]
    return Verdict(**_fields() | times | more)


def _withdrawal(**more: object) -> Withdrawal:
    return Withdrawal(**_fields() | {"seconds": None} | more)


@pytest.mark.parametrize("name", ON_CPUS)
def test_lines_come_back_as_they_were(name: str) -> None:
    for line in (
        Trial(**_fields(name), seconds=None, error="it broke"),
        Trial(**_fields(name), seconds=1e-5),
        _verdict(**_fields(name)),
        _withdrawal(**_fields(name)),
    ):
        assert from_line(to_line(line)) == line
        assert "\n" not in to_line(line)


def test_problem_and_knobs_are_objects_in_the_file() -> None:
    found = json.loads(to_line(_trial()))
    assert found["problem"]["channels"] == 24
    assert found["knobs"]["lanes"] == 8


def test_a_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_records(path, [_trial()])
    append_records(path, [_verdict(), _withdrawal()])
    assert read_records(path) == [_trial(), _verdict(), _withdrawal()]


def test_a_line_that_was_cut_off_costs_itself_alone(tmp_path: Path) -> None:
    path, text = tmp_path / "r.jsonl", to_line(_trial())
    for cut in range(1, len(text), 17):
        path.write_text(to_line(_verdict()) + "\n" + text[:cut])
        append_records(path, [_withdrawal()])
        with pytest.warns(UserWarning, match=r"r\.jsonl: line 2 is damaged; what"):
            assert read_records(path) == [_verdict(), _withdrawal()]


@pytest.mark.parametrize(
    "text",
    [
        "{}", "[]", "null", "7", "\x00\xff", '{"kind": "trial"}', '{"kind": ["trial"]}', "[" * 5000,
        to_line(_trial()).replace('"threads":1', '"threads":"1"'),
        to_line(_trial()).replace('"kind":"trial"', '"kind":"rumour"'),
        to_line(_trial()).replace('"op":', '"opus":'),
        to_line(_trial()).replace('"seconds":1e-05', '"seconds":0.0'),
        to_line(_trial()).replace('"seconds":1e-05', '"seconds":-1e-05'),
        to_line(_trial()).replace('"seconds":1e-05', '"seconds":NaN'),
        to_line(_trial()).replace('"seconds":1e-05', '"seconds":1e999'),
        to_line(_verdict()).replace('"ratio":2.0', '"ratio":0'),
        to_line(_verdict()).replace('"ratio":2.0', '"ratio":3.0'),
        to_line(_verdict()).replace('"cycles":30000.0', '"cycles":1' + 400 * "0"),
        to_line(_verdict()).replace('"cycles":30000.0', '"cycles":-Infinity'),
    ],
)  # fmt: skip
def test_damaged_lines_are_one_warning(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(f"{text}\n{to_line(_trial())}\n{text}\n".encode())
    with pytest.warns(UserWarning, match="line 1 is damaged, and 1 others; what") as caught:
        assert read_records(path) == [_trial()]
    assert len(caught) == 1


def test_the_last_verdict_of_its_conditions_is_believed() -> None:
    two = dataclasses.replace(CONDITIONS, threads=2)
    task = (_trial().op, _trial().problem)
    first, second = _verdict(cycles=1.0), _verdict(cycles=2.0)
    assert measured([first, second], CONDITIONS) == {task: Measured(second.knobs, 2.0, second.ratio)}
    assert measured([first, _verdict(cycles=2.0, conditions=two)], CONDITIONS)[task].cycles == 1.0
    assert measured([first, _trial()], CONDITIONS)[task].cycles == 1.0
    assert measured([first, _withdrawal()], CONDITIONS) == {}
    assert measured([first, _withdrawal(conditions=two)], CONDITIONS) != {}
    assert measured([first, _withdrawal(), second], CONDITIONS)[task].cycles == 2.0
    assert measured([_trial()], CONDITIONS) == {}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(CONDITIONS)])
def test_other_conditions_are_other_measurements(field: str) -> None:
    other = dataclasses.replace(CONDITIONS, **{field: 9 if field == "threads" else "other"})
    assert measured([_verdict(conditions=other)], CONDITIONS) == {}
    assert str(other) != str(CONDITIONS)


def _write(path: str, count: int) -> None:
    for _ in range(count):
        append_records(path, [_trial(), _verdict()])


def test_processes_that_write_at_once_do_not_tear_lines(tmp_path: Path) -> None:
    path = str(tmp_path / "r.jsonl")
    writers = [multiprocessing.get_context("fork").Process(target=_write, args=(path, 50)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_records(path)) == 400


def test_what_cannot_be_read_or_written_is_one_message(tmp_path: Path) -> None:
    lines: list[Line] = [_trial()]
    with pytest.raises(ArtifactError, match="cannot read the records"):
        read_records(tmp_path / "none.jsonl")
    with pytest.raises(ArtifactError, match=r"cannot read the records .*folder"):
        read_records(tmp_path)
    with pytest.raises(ArtifactError, match=r"cannot read the records .*null byte"):
        read_records("a\0b")
    with pytest.raises(ArtifactError, match="cannot write the records"):
        append_records(tmp_path, lines)
    with pytest.raises(ArtifactError, match="cannot write the records"):
        append_records(tmp_path / "no" / "r.jsonl", lines)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(ArtifactError, match="FIFO"):
        read_records(fifo)


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(to_line(_trial()) + "\n", encoding="utf-8-sig")
    assert read_records(path) == [_trial()]
