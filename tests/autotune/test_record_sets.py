"""Many records at once."""

import dataclasses

import pytest

from tvm_fastconv.autotune.candidate import Candidate
from tvm_fastconv.autotune.record_sets import (
    found_by,
    holding,
    merged,
    parse_candidate,
    parse_task,
    pruned,
    summaries,
    title_of,
)
from tvm_fastconv.autotune.records import Line, Trial
from tvm_fastconv.autotune.search import Search

from .fake import CONDITIONS, DEVICE, task
from .test_records import _trial, _verdict, _withdrawal

OTHERS = dataclasses.replace(CONDITIONS, threads=2)


def test_equal_lines_of_several_files_stay_where_they_stood_last() -> None:
    a, b, c = _trial(1.0), _trial(2.0), _verdict()
    assert merged([[a, c], [b, a]]) == [c, b, a]
    assert merged([]) == []


def test_pruning_keeps_what_acts_and_what_teaches() -> None:
    old, new, other = _verdict(1.0), _verdict(2.0), _verdict(3.0, conditions=OTHERS)
    failed, good = _trial(None, error="it broke"), _trial(1.0)
    lines: list[Line] = [old, failed, good, other, new]
    assert pruned(lines) == [good, other, new]
    assert pruned(lines, keep_trials=False) == [other, new]
    assert holding(lines) == [other, new]
    assert pruned([*lines, _withdrawal()]) == [good, other]


ODD = {
    "an operator of another version": {"op": "conv9d"},
    "another problem": {"problem": '{"a":1}'},
    "no problem": {"problem": "[]"},
    "other knobs": {"knobs": '{"a":1}'},
    "no knobs": {"knobs": "7"},
    "a plane that no layer has": {"problem": _trial().problem.replace('"height":', '"height":1000000000')},
    "a strip that no layer has": {"knobs": _trial().knobs.replace('"strip":', '"strip":1' + 400 * "0")},
}


def _candidate(line: Line) -> Candidate | None:
    return parse_candidate(line.op, line.problem, line.knobs)


@pytest.mark.parametrize("odd", ODD)
def test_what_no_layer_is_has_no_candidate(odd: str) -> None:
    assert _candidate(_trial(**ODD[odd])) is None
    assert _candidate(_trial()) == Candidate(task("conv2d"), Search(task("conv2d"), DEVICE).default)


def test_summaries_count_by_operator_and_conditions() -> None:
    lines: list[Line] = [
        _trial(1.0), _trial(None, error="it broke"), _verdict(), _verdict(ratio=1.0, conditions=OTHERS), _withdrawal(),
    ]  # fmt: skip
    first, second = summaries(lines)
    assert (first.op, first.conditions, first.problems) == ("conv2d", CONDITIONS, 1)
    assert (first.trials, first.failed, first.verdicts, first.faster) == (2, 1, 0, 0)
    assert (second.conditions, second.trials, second.verdicts, second.faster) == (OTHERS, 0, 1, 0)


def test_lines_are_found_by_what_tables_show() -> None:
    lines: list[Line] = [_trial(), _verdict(), Trial(**vars(_trial()) | {"op": "abacus"})]
    assert title_of(lines[0]) == "conv2d: 9x11, 24 to 40, 3x3"
    assert found_by(lines, "24 TO 40") == lines[:2]
    assert found_by(lines, "abacus") == lines[2:]
    assert found_by(lines, "5x5") == []


def test_an_operator_that_is_not_known_here_is_no_error() -> None:
    strange = [Trial(**vars(_trial()) | change) for change in ({"op": "abacus"}, {"problem": "{}"})]
    assert [parse_task(line.op, line.problem) for line in (_trial(), *strange)] == [
        task("conv2d"),
        None,
        None,
    ]
    assert summaries(strange)
