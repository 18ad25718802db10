"""What of a network is searched, kept and written, with times that are made up."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tvm_fastconv.autotune.candidate import Candidate, Task
from tvm_fastconv.autotune.network import Times
from tvm_fastconv.autotune.records import Trial, Verdict, measured, read_records
from tvm_fastconv.autotune.search import Search
from tvm_fastconv.autotune.tuner import FINALISTS, Budget, Tuner
from tvm_fastconv.topi.planner import Records

from .fake import CLOCK, CONDITIONS, DEVICE, FakeRunner, landscape, task

SLOW, FAST, WINDOW = task("conv2d"), task("dense"), task("depthwise_conv2d")


class Fixed:
    """A network that runs the same tasks whatever was measured."""

    def __init__(self, calls: dict[Task, int], compared: Sequence[Task] = ()) -> None:
        self.calls, self.compared, self.told = calls, compared, []

    def dispatched(self, records: Records) -> tuple[Counter[Task], Sequence[Task]]:
        self.told.append(records)
        return Counter(self.calls), [*self.calls, *self.compared]

    def timed(self, _variants: Sequence[Records], _turns: int) -> list[Times]:
        """It cannot run."""
        return []


def _tuner(path: Path, network: object, runner: FakeRunner, known: Sequence = (), seed: int = 0) -> Tuner:
    return Tuner(network, runner, CONDITIONS, str(path), known, seed)  # type: ignore[arg-type]


def test_what_beats_the_default_is_recorded_and_acts(tmp_path: Path) -> None:
    path, runner = tmp_path / "r.jsonl", FakeRunner()
    verdicts = _tuner(path, Fixed({SLOW: 3, FAST: 1}), runner).run(Budget(trials=200))
    lines = read_records(path)
    assert [line for line in lines if isinstance(line, Verdict)] == verdicts
    assert {verdict.task for verdict in verdicts} == {SLOW.key, FAST.key}
    for verdict, asked in zip(verdicts, (SLOW, FAST), strict=True):
        search = Search(asked, DEVICE)
        found = type(search.default).from_json(verdict.knobs)
        times = {knobs: landscape(Candidate(asked, knobs)) for knobs in search.space}
        assert times[found] <= 1.03 * min(times.values())
        assert verdict.ratio == pytest.approx(times[search.default] / times[found])
        assert verdict.cycles == pytest.approx(times[found] * CLOCK, rel=0.01)
        known = measured(lines, CONDITIONS)[asked.key]
        assert known.knobs == verdict.knobs


def test_the_default_stays_where_nothing_beats_it_by_more_than_the_noise(tmp_path: Path) -> None:
    default = Search(SLOW, DEVICE).default

    def times(candidate: Candidate) -> float:
        return 1.0 if candidate.knobs == default else 0.995  # less than the ratio that is asked

    path = tmp_path / "r.jsonl"
    (verdict,) = _tuner(path, Fixed({SLOW: 1}), FakeRunner(times)).run(Budget(trials=30))
    assert (verdict.knobs, verdict.ratio) == (default.to_json(), 1.0)


def test_what_was_only_lucky_once_is_not_recorded(tmp_path: Path) -> None:
    """The trial of some knobs was fast; in turns they are slower."""
    default, seen = Search(SLOW, DEVICE).default, Counter[Candidate]()

    def times(candidate: Candidate) -> float:
        seen[candidate] += 1
        if candidate.knobs == default:
            return 1.0
        return 0.5 if seen[candidate] == 1 else 1.5

    (verdict,) = _tuner(tmp_path / "r.jsonl", Fixed({SLOW: 1}), FakeRunner(times)).run(Budget(trials=20))
    assert (verdict.knobs, verdict.ratio) == (default.to_json(), 1.0)


def test_trials_are_on_the_disk_before_the_next_batch(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"

    class Looking(FakeRunner):
        def run(self, candidates: Sequence[Candidate]) -> list:
            written = len(read_records(path)) if path.exists() else 0
            assert written == len(self.tried)
            return super().run(candidates)

    runner = Looking()
    _tuner(path, Fixed({SLOW: 1, FAST: 2}), runner).run(Budget(trials=60))
    assert len(runner.tried) == 60


def test_a_second_run_goes_on_and_measures_nothing_twice(tmp_path: Path) -> None:
    path, network = tmp_path / "r.jsonl", Fixed({SLOW: 2, FAST: 1})
    first, second = FakeRunner(), FakeRunner()
    _tuner(path, network, first).run(Budget(trials=40))
    tuner = _tuner(path, network, second, read_records(path))
    verdicts = tuner.run(Budget(trials=40))
    assert not set(first.tried) & set(second.tried)
    assert len(second.tried) == 40
    assert all(verdict.ratio >= 1 for verdict in verdicts)
    # What a third finds to do without a single trial: verdicts on what is known.
    third = FakeRunner()
    again = _tuner(path, network, third, read_records(path)).run(Budget(seconds=0))
    assert (third.tried, len(again)) == ([], 2)
    assert [verdict.knobs for verdict in again] == [verdict.knobs for verdict in verdicts]


def test_trials_under_other_conditions_count_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    _tuner(path, Fixed({SLOW: 1}), FakeRunner()).run(Budget(trials=30))
    other = [
        Trial(**{**vars(line), "conditions": type(CONDITIONS)(cpu="x", threads=1, package="0", tvm="0")})
        for line in read_records(path)
        if isinstance(line, Trial)
    ]
    runner = FakeRunner()
    _tuner(tmp_path / "s.jsonl", Fixed({SLOW: 1}), runner, other).run(Budget(trials=10))
    assert len(runner.tried) == 10
    assert runner.tried[0].knobs == Search(SLOW, DEVICE).default


def test_the_budget_goes_where_time_is_saved(tmp_path: Path) -> None:
    runner = FakeRunner()
    seconds = {SLOW: landscape(Candidate(SLOW, Search(SLOW, DEVICE).default)), FAST: 0.0}
    seconds[FAST] = landscape(Candidate(FAST, Search(FAST, DEVICE).default))
    calls = {SLOW: 100 * math.ceil(seconds[FAST] / seconds[SLOW]), FAST: 1}
    _tuner(tmp_path / "r.jsonl", Fixed(calls), runner).run(Budget(trials=34))
    tried = Counter(candidate.task for candidate in runner.tried)
    assert tried[SLOW] > 3 * tried[FAST]


def test_failures_are_trials_too(tmp_path: Path) -> None:
    def times(candidate: Candidate) -> float | None:
        return None if getattr(candidate.knobs, "vectors", 1) > 2 else landscape(candidate)

    path, runner = tmp_path / "r.jsonl", FakeRunner(times)
    tuner = _tuner(path, Fixed({SLOW: 1, FAST: 1}), runner)
    tuner.run(Budget(trials=60))
    failed = [line for line in read_records(path) if isinstance(line, Trial) and line.error == "it broke"]
    assert failed
    assert sum(tuner.failures.values()) == len(failed)


def test_a_task_whose_default_fails_has_no_verdict(tmp_path: Path) -> None:
    def times(candidate: Candidate) -> float | None:
        return None if candidate.task == FAST else landscape(candidate)

    verdicts = _tuner(tmp_path / "r.jsonl", Fixed({SLOW: 1, FAST: 1}), FakeRunner(times)).run(
        Budget(trials=40)
    )
    assert [verdict.task for verdict in verdicts] == [SLOW.key]


def test_what_measurement_makes_run_is_searched(tmp_path: Path) -> None:
    """By estimate the network runs one task; once both are measured, the other."""

    class Choosing(Fixed):
        def dispatched(self, records: Records) -> tuple[Counter[Task], Sequence[Task]]:
            chosen = SLOW
            if SLOW.key in records and WINDOW.key in records:
                chosen = min((SLOW, WINDOW), key=lambda each: records[each.key].cycles)
            self.calls = {chosen: 1}
            return super().dispatched(records)

    network, runner = Choosing({}, compared=[SLOW, WINDOW]), FakeRunner()
    assert landscape(Candidate(WINDOW, Search(WINDOW, DEVICE).default)) < landscape(
        Candidate(SLOW, Search(SLOW, DEVICE).default)
    )
    verdicts = _tuner(tmp_path / "r.jsonl", network, runner).run(Budget(trials=40))
    tried = Counter(candidate.task for candidate in runner.tried)
    assert tried[SLOW] == 1
    assert tried[WINDOW] == 39
    # Both have a verdict, so that the next compilation compares what was measured.
    assert {verdict.task for verdict in verdicts} == {SLOW.key, WINDOW.key}


def test_it_ends_where_nothing_is_left_to_expect(tmp_path: Path) -> None:
    runner = FakeRunner(lambda candidate: 1.0)
    _tuner(tmp_path / "r.jsonl", Fixed({SLOW: 1}), runner).run(Budget())
    assert len(runner.tried) < 100


def test_the_same_seed_tries_the_same(tmp_path: Path) -> None:
    tried = []
    for name in ("a", "b"):
        runner = FakeRunner()
        _tuner(tmp_path / name, Fixed({SLOW: 1, FAST: 2}), runner, seed=5).run(Budget(trials=50))
        tried.append(runner.tried)
    assert tried[0] == tried[1]


class Running(Fixed):
    """A network that runs, and in which times are others than alone."""

    def __init__(
        self, calls: dict[Task, int], compared: Sequence[Task], times: Callable[[Candidate], float]
    ) -> None:
        super().__init__(calls, compared)
        self.times, self.variants = times, []

    def timed(self, variants: Sequence[Records], turns: int) -> list[Times]:
        self.variants = list(variants)
        return [
            {
                asked: [
                    self.times(self._candidate(asked, records)) * (1 + 1e-4 * turn) for turn in range(turns)
                ]
                for asked in self._present(records)
            }
            for records in variants
        ]

    def _candidate(self, asked: Task, records: Records) -> Candidate:
        kind = type(Search(asked, DEVICE).default)
        return Candidate(asked, kind.from_json(records[asked.key].knobs))

    def _present(self, records: Records) -> list[Task]:
        """Of what competes, the one with the least cycles runs."""
        rivals = [*self.calls, *self.compared]
        return [min(rivals, key=lambda each: records[each.key].cycles)]


def test_what_is_faster_alone_but_not_in_the_network_is_not_recorded(tmp_path: Path) -> None:
    default = Search(SLOW, DEVICE).default
    network = Running({SLOW: 1}, [], lambda candidate: 1.0 if candidate.knobs == default else 1.2)
    (verdict,) = _tuner(tmp_path / "r.jsonl", network, FakeRunner()).run(Budget(trials=40))
    assert (verdict.knobs, verdict.ratio, verdict.seconds) == (
        default.to_json(),
        1.0,
        pytest.approx(1.0, rel=0.01),
    )


def test_in_the_network_the_best_of_the_finalists_wins(tmp_path: Path) -> None:
    default = Search(SLOW, DEVICE).default
    order: dict[str, int] = {}

    def times(candidate: Candidate) -> float:
        """The later a finalist comes, the faster it is."""
        place = order.setdefault(candidate.knobs.to_json(), len(order))
        return 1.0 if candidate.knobs == default else 1.0 - 0.1 * place

    alone = FakeRunner(lambda candidate: 1.0 if candidate.knobs == default else 0.5)
    network, runner = Running({SLOW: 1}, [], times), alone
    (verdict,) = _tuner(tmp_path / "r.jsonl", network, runner).run(Budget(trials=40))
    assert len(network.variants) == 1 + FINALISTS
    assert verdict.knobs == network.variants[-1][SLOW.key].knobs
    assert verdict.ratio == pytest.approx(1 / 0.7)
    assert not runner.compared, "alone nothing is compared where the network runs"


def test_operators_that_compete_are_both_timed_in_the_network(tmp_path: Path) -> None:
    """Whichever of both the planner would choose, the other is made to run as well."""
    rival = task("winograd_conv2d")
    seconds = {SLOW: 3e-6, rival: 2e-6}
    network = Running({SLOW: 1}, [rival], lambda candidate: seconds[candidate.task])
    verdicts = _tuner(tmp_path / "r.jsonl", network, FakeRunner(lambda candidate: 1e-6)).run(
        Budget(trials=10)
    )
    assert {verdict.task: verdict.seconds for verdict in verdicts} == {
        each.key: pytest.approx(seconds[each], rel=0.01) for each in seconds
    }
