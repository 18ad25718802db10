"""What of a network is searched, kept and written, with times that are made up."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tvm_fastconv.autotune.candidate import Candidate, Task
from tvm_fastconv.autotune.network import Dispatched
from tvm_fastconv.autotune.records import Trial, Verdict, measured, read_records
from tvm_fastconv.autotune.search import Search
from tvm_fastconv.autotune.tasks import INCUMBENT, Tasks
from tvm_fastconv.autotune.tuner import Budget, Tuner
from tvm_fastconv.topi.planner import Records

from .fake import CLOCK, CONDITIONS, DEVICE, FakeRunner, landscape, task

SLOW, FAST, WINDOW = task("conv2d"), task("dense"), task("depthwise_conv2d")


class Fixed:
    """A network that runs the same tasks whatever was measured."""

    def __init__(
        self, calls: dict[Task, int], compared: Sequence[Task] = (), footprint: int = 1 << 20
    ) -> None:
        self.calls, self.compared, self.footprint = calls, compared, footprint

    def dispatched(self, _records: Records) -> Dispatched:
        return Dispatched(Counter(self.calls), [*self.calls, *self.compared], self.footprint)


def _tasks(path: Path, network: object, known: Sequence = (), seed: int = 0) -> Tasks:
    return Tasks(network, DEVICE, CONDITIONS, str(path), CLOCK, "a core", known, seed)  # type: ignore[arg-type]


def _tune(
    path: Path, network: object, runner: FakeRunner, budget: Budget, known: Sequence = (), seed: int = 0
) -> list[Verdict]:
    return Tuner(_tasks(path, network, known, seed), runner, budget).run()


def test_what_beats_the_default_is_recorded_and_acts(tmp_path: Path) -> None:
    path, runner = tmp_path / "r.jsonl", FakeRunner()
    verdicts = _tune(path, Fixed({SLOW: 3, FAST: 1}), runner, Budget(trials=200))
    lines = read_records(path)
    assert [line for line in lines if isinstance(line, Verdict)] == verdicts
    assert {verdict.task for verdict in verdicts} == {SLOW.key, FAST.key}
    for verdict, asked in zip(verdicts, (SLOW, FAST), strict=True):
        search = Search(asked, DEVICE)
        found = type(search.default).from_json(verdict.knobs)
        times = {knobs: landscape(Candidate(asked, knobs)) for knobs in search.space}
        assert times[found] <= 1.03 * min(times.values())
        assert verdict.ratio == pytest.approx(times[search.default] / times[found])
        assert verdict.cycles == pytest.approx(INCUMBENT * times[found] * CLOCK, rel=0.02)
        known = measured(lines, CONDITIONS)[asked.key]
        assert known.knobs == verdict.knobs


def test_the_default_stays_where_nothing_beats_it_by_more_than_the_noise(tmp_path: Path) -> None:
    default = Search(SLOW, DEVICE).default

    def times(candidate: Candidate) -> float:
        return 1.0 if candidate.knobs == default else 0.995  # less than the ratio that is asked

    path = tmp_path / "r.jsonl"
    (verdict,) = _tune(path, Fixed({SLOW: 1}), FakeRunner(times), Budget(trials=30))
    assert (verdict.knobs, verdict.ratio) == (default.to_json(), 1.0)


def test_what_was_only_lucky_once_is_not_recorded(tmp_path: Path) -> None:
    """The trial of some knobs was fast; in turns they are slower."""
    default, seen = Search(SLOW, DEVICE).default, Counter[Candidate]()

    def times(candidate: Candidate) -> float:
        seen[candidate] += 1
        if candidate.knobs == default:
            return 1.0
        return 0.5 if seen[candidate] == 1 else 1.5

    (verdict,) = _tune(tmp_path / "r.jsonl", Fixed({SLOW: 1}), FakeRunner(times), Budget(trials=20))
    assert (verdict.knobs, verdict.ratio) == (default.to_json(), 1.0)


def test_trials_are_on_the_disk_before_the_next_batch(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"

    class Looking(FakeRunner):
        def run(self, candidates: Sequence[Candidate]) -> list:
            written = len(read_records(path)) if path.exists() else 0
            assert written == len(self.tried)
            return super().run(candidates)

    runner = Looking()
    _tune(path, Fixed({SLOW: 1, FAST: 2}), runner, Budget(trials=60))
    assert len(runner.tried) == 60


def test_a_second_run_goes_on_and_measures_nothing_twice(tmp_path: Path) -> None:
    path, network = tmp_path / "r.jsonl", Fixed({SLOW: 2, FAST: 1})
    first, second = FakeRunner(), FakeRunner()
    _tune(path, network, first, Budget(trials=40))
    verdicts = _tune(path, network, second, Budget(trials=40), read_records(path))
    assert not set(first.tried) & set(second.tried)
    assert len(second.tried) == 40
    assert all(verdict.ratio >= 1 for verdict in verdicts)
    # What a third finds to do without a single trial: verdicts on what is known.
    third = FakeRunner()
    again = _tune(path, network, third, Budget(seconds=0), read_records(path))
    assert (third.tried, len(again)) == ([], 2)
    assert [verdict.knobs for verdict in again] == [verdict.knobs for verdict in verdicts]


def test_trials_under_other_conditions_count_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    _tune(path, Fixed({SLOW: 1}), FakeRunner(), Budget(trials=30))
    other = [
        Trial(**{**vars(line), "conditions": type(CONDITIONS)(cpu="x", threads=1, package="0", tvm="0")})
        for line in read_records(path)
        if isinstance(line, Trial)
    ]
    runner = FakeRunner()
    _tune(tmp_path / "s.jsonl", Fixed({SLOW: 1}), runner, Budget(trials=10), other)
    assert len(runner.tried) == 10
    assert runner.tried[0].knobs == Search(SLOW, DEVICE).default


def test_odd_lines_of_a_file_teach_nothing_and_break_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    _tune(path, Fixed({SLOW: 1}), FakeRunner(), Budget(trials=12))
    known = [line for line in read_records(path) if isinstance(line, Trial)]
    conv = '"kernel":[3,3]'
    assert conv in known[0].problem
    changes = [
        {"op": "conv9d"}, {"knobs": "{}"}, {"problem": "null"},
        {"problem": known[0].problem.replace(conv, '"kernel":[]')},
        {"problem": known[0].problem.replace(conv, '"kernel":[0,0]')},
        {"problem": known[0].problem.replace('"height":', '"height":1000000000')},
        {"knobs": known[0].knobs.replace('"vectors":', '"vectors":1000')},
    ]  # fmt: skip
    odd = [Trial(**vars(line) | change) for change in changes for line in known]
    runner = FakeRunner()
    _tune(path, Fixed({SLOW: 1}), runner, Budget(trials=8), [*odd, *known])
    assert len(runner.tried) == 8


@pytest.mark.parametrize("trials", [1, 2, 3, 7])
def test_no_more_trials_are_made_than_asked(trials: int, tmp_path: Path) -> None:
    runner = FakeRunner(width=2)
    calls = {SLOW: 1, FAST: 1, WINDOW: 1}
    _tune(tmp_path / "r.jsonl", Fixed(calls), runner, Budget(trials=trials))
    assert len(runner.tried) == trials


def test_the_budget_goes_where_time_is_saved(tmp_path: Path) -> None:
    runner = FakeRunner()
    seconds = {SLOW: landscape(Candidate(SLOW, Search(SLOW, DEVICE).default)), FAST: 0.0}
    seconds[FAST] = landscape(Candidate(FAST, Search(FAST, DEVICE).default))
    calls = {SLOW: 100 * math.ceil(seconds[FAST] / seconds[SLOW]), FAST: 1}
    _tune(tmp_path / "r.jsonl", Fixed(calls), runner, Budget(trials=34))
    tried = Counter(candidate.task for candidate in runner.tried)
    assert tried[SLOW] > 3 * tried[FAST]


def test_failures_are_trials_too(tmp_path: Path) -> None:
    def times(candidate: Candidate) -> float | None:
        return None if getattr(candidate.knobs, "vectors", 1) > 2 else landscape(candidate)

    path, runner = tmp_path / "r.jsonl", FakeRunner(times)
    tasks = _tasks(path, Fixed({SLOW: 1, FAST: 1}))
    Tuner(tasks, runner, Budget(trials=60)).run()
    failed = [line for line in read_records(path) if isinstance(line, Trial) and line.error == "it broke"]
    assert failed
    assert sum(tasks.failures.values()) == len(failed)


def test_a_task_whose_default_fails_has_no_verdict(tmp_path: Path) -> None:
    def times(candidate: Candidate) -> float | None:
        return None if candidate.task == FAST else landscape(candidate)

    verdicts = _tune(tmp_path / "r.jsonl", Fixed({SLOW: 1, FAST: 1}), FakeRunner(times), Budget(trials=40))
    assert [verdict.task for verdict in verdicts] == [SLOW.key]


def test_what_measurement_makes_run_is_searched(tmp_path: Path) -> None:
    """By estimate the network runs one task; once both are measured, the other."""

    class Choosing(Fixed):
        def dispatched(self, records: Records) -> Dispatched:
            chosen = SLOW
            if SLOW.key in records and WINDOW.key in records:
                chosen = min((SLOW, WINDOW), key=lambda each: records[each.key].cycles)
            self.calls = {chosen: 1}
            return super().dispatched(records)

    network, runner = Choosing({}, compared=[SLOW, WINDOW]), FakeRunner()
    assert landscape(Candidate(WINDOW, Search(WINDOW, DEVICE).default)) < landscape(
        Candidate(SLOW, Search(SLOW, DEVICE).default)
    )
    verdicts = _tune(tmp_path / "r.jsonl", network, runner, Budget(trials=40))
    tried = Counter(candidate.task for candidate in runner.tried)
    assert tried[SLOW] == 1
    assert tried[WINDOW] == 39
    # Both have a verdict, so that the next compilation compares what was measured.
    assert {verdict.task for verdict in verdicts} == {SLOW.key, WINDOW.key}


def test_it_ends_where_nothing_is_left_to_expect(tmp_path: Path) -> None:
    runner = FakeRunner(lambda candidate: 1.0)
    _tune(tmp_path / "r.jsonl", Fixed({SLOW: 1}), runner, Budget())
    assert len(runner.tried) < 100


def test_the_same_seed_tries_the_same(tmp_path: Path) -> None:
    tried = []
    for name in ("a", "b"):
        runner = FakeRunner()
        _tune(tmp_path / name, Fixed({SLOW: 1, FAST: 2}), runner, Budget(trials=50), seed=5)
        tried.append(runner.tried)
    assert tried[0] == tried[1]


def test_operators_that_compete_are_both_measured_and_the_incumbent_is_favoured(tmp_path: Path) -> None:
    rival = task("winograd_conv2d")
    path, network = tmp_path / "r.jsonl", Fixed({SLOW: 1}, compared=[rival])
    verdicts = _tune(path, network, FakeRunner(lambda candidate: 1e-6), Budget(trials=10))
    cycles = {verdict.task: verdict.cycles for verdict in verdicts}
    assert cycles[SLOW.key] == pytest.approx(INCUMBENT * 1e-6 * CLOCK, rel=0.02)
    assert cycles[rival.key] == pytest.approx(1e-6 * CLOCK, rel=0.02)


def test_what_a_chain_takes_alone_is_no_reason_for_it(tmp_path: Path) -> None:
    """It saves the way through memory, which tasks alone do not go: its knobs are tuned, estimates choose it."""
    chain = task("chain, inverted bottleneck")
    path = tmp_path / "r.jsonl"
    (verdict,) = _tune(path, Fixed({chain: 1}), FakeRunner(), Budget(trials=40))
    assert verdict.cycles is None
    assert measured(read_records(path), CONDITIONS)[chain.key].cycles is None


def test_the_network_says_how_much_memory_passes_between_two_calls(tmp_path: Path) -> None:
    for footprint in (1 << 20, 1 << 40):
        runner = FakeRunner()
        network = Fixed({SLOW: 1}, footprint=footprint)
        _tune(tmp_path / str(footprint), network, runner, Budget(trials=40))
        assert runner.footprints == [min(footprint, DEVICE.machine.own_l3_bytes)]
