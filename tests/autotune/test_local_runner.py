"""Trials on this machine: built, checked against the reference, timed; nothing is said of how fast anything is."""

import os
from collections.abc import Iterator

import numpy as np
import pytest

from tvm_fastconv.autotune.candidate import Candidate, Device
from tvm_fastconv.autotune.check_answer import check_answer, expected_answer
from tvm_fastconv.autotune.local_runner import LocalRunner
from tvm_fastconv.autotune.search import Search
from tvm_fastconv.machine_files import target_and_machine
from tvm_fastconv.targets import spec_of
from tvm_fastconv.topi.operators import operator_of

from .fake import task

NAMES = [
    "conv2d",
    "winograd_conv2d",
    "bitserial_conv2d",
    "lookup_conv2d",
    "depthwise_conv2d",
    "chain, stencils",
]


def _device() -> Device:
    target, machine = target_and_machine("native")
    return Device(spec_of(target), machine)


@pytest.fixture(scope="module")
def runner() -> Iterator[LocalRunner]:
    made = LocalRunner(_device(), workers=2)
    yield made
    made.close()


def _two(name: str) -> list[Candidate]:
    """The default of a task, and other knobs."""
    search = Search(task(name), _device())
    candidates = search.propose(1, None)
    search.observe(search.default, 1.0)
    return candidates + search.propose(1, None)


@pytest.mark.native
@pytest.mark.parametrize("name", NAMES)
def test_candidates_have_a_time(runner: LocalRunner, name: str) -> None:
    for outcome in runner.run(_two(name)):
        assert outcome.error is None
        assert outcome.seconds


def test_candidates_of_several_tasks_are_measured_in_order(runner: LocalRunner) -> None:
    candidates = [candidate for name in NAMES[:3] for candidate in _two(name)]
    outcomes = runner.run(candidates)
    assert len(outcomes) == len(candidates)
    assert all(outcome.seconds for outcome in outcomes)


def test_candidates_are_compared_in_turns(runner: LocalRunner) -> None:
    times = runner.compare(_two("conv2d"), turns=7, footprint=1 << 16)
    assert times is not None
    assert [len(each) for each in times] == [7, 7]
    assert min(map(min, times)) > 0


@pytest.mark.parametrize(
    ("how", "message"), [("abort", "SIGABRT"), ("raise", "no such knobs"), ("wrong", "wrong answer")]
)
def test_a_bad_candidate_costs_itself_alone(runner: LocalRunner, how: str, message: str) -> None:
    good = _two("conv2d")
    bad = Candidate(_Broken(how), good[0].knobs)  # type: ignore[arg-type]
    first, broken, last = runner.run([good[0], bad, good[1]])
    assert (first.error, last.error) == (None, None)
    assert broken.seconds is None
    assert message in str(broken.error)
    assert runner.compare([good[0], bad], turns=6, footprint=1 << 16) is None


class _Broken:
    """A task that the worker cannot do, in one of several ways."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.op, self.problem = "conv2d", task("conv2d").problem

    def __reduce__(self) -> tuple:
        return _break, (self.how,)


def _break(how: str) -> object:
    """What happens where a task is unpickled: in the worker."""
    if how == "abort":
        os.abort()
    if how == "raise":
        raise ValueError("no such knobs")
    original = task("conv2d")
    expected_answer(None, lambda: np.zeros(0))  # nothing is kept of another task
    expected_answer(original, lambda: np.zeros((1, 9, 11, 40), np.float32))
    return original


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        (np.ones(3, np.int32), np.array([1, 1, 2], np.int32), "33% of the values differ"),
        (np.ones(3, np.float32), np.array([1, 1, 1.001], np.float32), "off by 1e-03 of the largest"),
        (np.full(3, np.nan, np.float32), np.ones(3, np.float32), "off by nan"),
        (np.ones(3, np.float32), np.ones(4, np.float32), "shape"),
        (np.ones(3, np.float32), np.zeros(3, np.float32), "off by"),
    ],
)
def test_wrong_answers_are_refused(got: np.ndarray, want: np.ndarray, message: str) -> None:
    check_answer(want, want)
    with pytest.raises(ValueError, match=message):
        check_answer(got, want)


def test_float_noise_is_no_wrong_answer() -> None:
    want = np.array([1.0, 1e-8], np.float32)
    check_answer(want + np.float32(1e-5), want)


def test_all_knobs_of_a_task_have_the_same_reference() -> None:
    """Or one answer could not be checked against the reference of another."""
    device = _device()
    for name in NAMES:
        asked = task(name)
        make = operator_of(device.machine.kind, asked.op).make
        search = Search(asked, device)
        some = [search.default, *list(search.space)[:: max(1, len(search.space) // 3)]]
        answers = [
            make(asked.problem, knobs, device.machine, np.random.default_rng(0)).reference() for knobs in some
        ]
        for answer in answers[1:]:
            np.testing.assert_array_equal(answer, answers[0])
