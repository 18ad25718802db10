"""What a batch holds and what becomes of its results, with times that are made up."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from tvm_fastconv.autotune.batch_files import Result
from tvm_fastconv.autotune.batch_plan import Taken, plan_batch, take_results
from tvm_fastconv.autotune.candidate import Candidate, Group, Outcome
from tvm_fastconv.autotune.contest import TURNS
from tvm_fastconv.autotune.records import Trial, Verdict, read_records
from tvm_fastconv.autotune.search import Search
from tvm_fastconv.autotune.tasks import Tasks

from .fake import DEVICE, landscape, task
from .test_tuner import FAST, SLOW, Fixed, _tasks


def _measured(groups: Iterable[Group], **changes: object) -> list[Result]:
    """What a device would bring back."""
    return [
        Result(**{
            "op": group.candidates[0].task.op,
            "problem": group.candidates[0].task.problem.key,
            "knobs": tuple(candidate.knobs.to_json() for candidate in group.candidates),
            "contest": group.footprint is not None,
            "times": tuple(
                tuple(landscape(candidate) * (1 + 0.001 * turn) for turn in range(group.turns))
                for candidate in group.candidates
            ),
        } | changes)
        for group in groups
    ]  # fmt: skip


def _again(path: Path) -> Tasks:
    """The next call, in another process."""
    return _tasks(path, Fixed({SLOW: 2, FAST: 1}), read_records(path) if path.exists() else ())


def _tried(groups: Iterable[Group]) -> list[Candidate]:
    return [group.candidates[0] for group in groups if group.footprint is None]


def test_the_first_batch_holds_all_defaults_and_no_contest(tmp_path: Path) -> None:
    groups = plan_batch(_again(tmp_path / "r.jsonl"), 30)
    tried = _tried(groups)
    assert len(groups) == len(tried) == len(set(tried)) == 30
    assert {candidate.task for candidate in tried[:2]} == {SLOW, FAST}
    assert all(candidate.knobs == Search(candidate.task, DEVICE).default for candidate in tried[:2])


def test_batches_converge_like_the_live_search(tmp_path: Path) -> None:
    path, seen = tmp_path / "r.jsonl", set[Candidate]()
    for _ in range(30):
        groups = plan_batch(_again(path), 24)
        if not groups:
            break
        assert not seen & set(_tried(groups))
        seen |= set(_tried(groups))
        taken = take_results(_again(path), _measured(groups))
        assert (taken.trials, taken.known, taken.alien) == (len(_tried(groups)), 0, 0)
    else:
        pytest.fail("there was always more to try")
    verdicts = _again(path).verdicts
    assert set(verdicts) == {SLOW.key, FAST.key}
    for asked in (SLOW, FAST):
        search = Search(asked, DEVICE)
        times = {knobs: landscape(Candidate(asked, knobs)) for knobs in search.space}
        found = type(search.default).from_json(verdicts[asked.key].knobs)
        assert times[found] <= 1.03 * min(times.values())
        assert verdicts[asked.key].ratio == pytest.approx(times[search.default] / times[found])


def test_contests_are_held_once_for_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    take_results(_again(path), _measured(plan_batch(_again(path), 40)))
    contests = [group for group in plan_batch(_again(path), 1) if group.footprint is not None]
    assert {group.candidates[0].task for group in contests} == {SLOW, FAST}
    assert all(group.turns == TURNS for group in contests)
    verdicts = take_results(_again(path), _measured(contests)).verdicts
    assert len(verdicts) == len(contests)
    again = [group for group in plan_batch(_again(path), 1) if group.footprint is not None]
    assert again == []


def test_what_failed_on_the_device_is_a_trial_without_a_time(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    groups = plan_batch(_again(path), 10)
    good, bad = _measured(groups[:9]), _measured(groups[9:], times=(), error="it broke")
    tasks = _again(path)
    assert take_results(tasks, good + bad).trials == 10
    assert tasks.failures == {"it broke": 1}
    assert [line.error for line in read_records(path) if isinstance(line, Trial)] == [None] * 9 + ["it broke"]


def test_a_contest_that_failed_leaves_the_default(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    take_results(_again(path), _measured(plan_batch(_again(path), 40)))
    contests = [group for group in plan_batch(_again(path), 1) if group.footprint is not None]
    verdicts = take_results(_again(path), _measured(contests, times=(), error="it broke")).verdicts
    assert {verdict.ratio for verdict in verdicts} == {1.0}
    assert plan_batch(_again(path), 1)[0].footprint is None


def test_what_this_network_does_not_ask_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    groups = plan_batch(_again(path), 4)
    other = task("depthwise_conv2d")
    stray = Group((Candidate(other, Search(other, DEVICE).default),), 3)
    odd = [
        *_measured([stray]),
        *_measured(groups[:1], op="conv9d"),
        *_measured(groups[:1], problem="{}"),
        *_measured(groups[:1], knobs=('{"a":1}',)),
        *_measured(groups[:1], knobs=("{bad",)),
        *_measured(groups[:1], knobs=("[" * 100_000,)),
    ]
    assert take_results(_again(path), odd) == Taken(0, [], 0, len(odd))
    assert not path.exists()


def test_a_contest_against_another_than_the_default_is_none(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    take_results(_again(path), _measured(plan_batch(_again(path), 40)))
    contests = [group for group in plan_batch(_again(path), 1) if len(group.candidates) > 1]
    turned = [Group(group.candidates[::-1], group.turns, group.footprint) for group in contests]
    assert turned
    assert take_results(_again(path), _measured(turned)) == Taken(0, [], len(turned), 0)
    assert not any(isinstance(line, Verdict) for line in read_records(path))


def test_candidates_that_were_asked_for_count_as_tried(tmp_path: Path) -> None:
    tasks = _again(tmp_path / "r.jsonl")
    first, second = (set(_tried(plan_batch(tasks, 12))) for _ in range(2))
    assert not first & second
    tasks.observe([*first], [Outcome(landscape(candidate)) for candidate in first])
    assert not first & set(_tried(plan_batch(tasks, 12)))


def test_results_that_come_twice_are_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    first = _measured(plan_batch(_again(path), 40))
    take_results(_again(path), first)
    second = _measured(plan_batch(_again(path), 10))
    take_results(_again(path), second + second)
    written = path.read_text()
    assert take_results(_again(path), first + second) == Taken(0, [], len(first + second), 0)
    assert path.read_text() == written


def test_a_contest_of_one_with_itself_is_none(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    take_results(_again(path), _measured(plan_batch(_again(path), 40)))
    contest = next(group for group in plan_batch(_again(path), 1) if group.footprint is not None)
    twice = Group((contest.candidates[0],) * 2, TURNS, 1 << 20)
    assert take_results(_again(path), _measured([twice])) == Taken(0, [], 0, 1)


def test_a_contest_counts_also_where_the_trials_were_lost(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    take_results(_again(path), _measured(plan_batch(_again(path), 40)))
    contests = [group for group in plan_batch(_again(path), 1) if group.footprint is not None]
    taken = take_results(_again(tmp_path / "fresh.jsonl"), _measured(contests))
    assert len(taken.verdicts) == len(contests)
