"""Tunes a network: which task is searched next, what is kept of it, and what is on the disk meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tvm_fastconv.topi.planner import Measured, Records

from .candidate import Candidate, Device, Outcome, Task
from .contest import TURNS, Decision, decide
from .cost_model import CostModel
from .local_runner import Runner
from .network import Network
from .record_sets import candidate_of
from .records import Conditions, Line, Trial, Verdict, append_records
from .search import Search

log = logging.getLogger(__name__)

BATCH = 4
"""Candidates of a round, for each that the runner builds at once."""

FIRST_GAIN, STALLED_GAIN, FADING = 0.2, 0.1, 0.55
"""What a task's next round is expected to save of its time: at first, and ever less after rounds that saved nothing."""

LEAST_GAIN = 0.004
"""Of a task's time; what is expected to save less is not searched any further."""

FINALISTS = 3
"""Knobs of each task that are set against the default at the end."""

INCUMBENT = 0.95
"""Times its cycles, what runs untuned is set against other operators: it stays where these are hardly faster."""

PASSING = ("chain",)
"""Operators whose gain is what does not pass through memory: times of tasks do not tell it, estimates go on to."""

CACHED = 0.75
"""Of the last cache as the machine's row has it, what one network finds of its own: others share it."""


@dataclass
class Budget:
    """When to end: after ``trials`` or ``seconds``, whichever comes first."""

    trials: float = math.inf
    seconds: float = math.inf
    used: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.started)

    @property
    def spent(self) -> bool:
        """Whether it is time to end."""
        return self.used >= self.trials or self.left <= 0


@dataclass
class TaskState:
    """A task and how far its search is.

    Attributes
    ----------
    calls : int
        Of the network; 0 of a task that was compared with one that runs.
    rounds, stalled : int
        Batches so far, and those since the last that saved anything.
    gain : float
        What the last batch saved of the time.
    """

    search: Search
    calls: int = 0
    rounds: int = 0
    stalled: int = 0
    gain: float = 0.0

    @property
    def default_seconds(self) -> float:
        """Of the default knobs; infinite where they failed or were not timed yet."""
        return self.search.times.get(self.search.default, math.inf)

    @property
    def saving(self) -> float:
        """Seconds of the network that the next batch is expected to save."""
        if self.search.exhausted or not self.calls:
            return 0.0
        expected = FIRST_GAIN if not self.rounds else 0.5 * self.gain + STALLED_GAIN * FADING**self.stalled
        return 0.0 if expected < LEAST_GAIN else expected * self.calls * self.search.seconds


Show = Callable[["Tuner"], None]


class Tuner:
    """Searches the tasks of a network.

    Parameters
    ----------
    network : Network
    runner : Runner
    conditions : Conditions
    path : str
        The file of records that grows.
    lines : sequence of Line
        What was measured before; nothing of it is measured again.
    seed : int
    """

    def __init__(
        self,
        network: Network,
        runner: Runner,
        conditions: Conditions,
        path: str,
        lines: Sequence[Line] = (),
        seed: int = 0,
    ) -> None:
        self.network, self.runner, self.conditions = network, runner, conditions
        self.path, self.seed = path, seed
        self.states: dict[Task, TaskState] = {}
        self.footprint = 0
        self._incumbents: set[Task] = set()
        self.models: dict[str, CostModel] = defaultdict(lambda: CostModel(self.device))
        self.failures: Counter[str] = Counter()
        self._known: dict[tuple[str, str], list[Trial]] = defaultdict(list)
        for line in lines:
            if isinstance(line, Trial) and line.conditions == conditions:
                self._known[line.task].append(line)
        self._teach()

    @property
    def device(self) -> Device:
        """What is tuned for."""
        return self.runner.device

    @property
    def running(self) -> list[TaskState]:
        """The tasks that the network runs, those that take longest by default first."""
        states = [state for state in self.states.values() if state.calls]
        return sorted(states, key=lambda state: -state.calls * min(state.default_seconds, 1e9))

    def seconds(self, default: bool = False) -> float:
        """Of all running tasks together, at their best or by default."""
        return sum(
            state.calls * (state.default_seconds if default else state.search.seconds)
            for state in self.running
        )

    def run(self, budget: Budget, show: Show = lambda tuner: None) -> list[Verdict]:
        """Search until the budget is spent or nothing is left to expect; returns the verdicts."""
        self._dispatch({})
        self._incumbents = {task for task, state in self.states.items() if state.calls}
        self._measure_defaults(budget, show)
        self._dispatch(self._measured())  # other operators may run than by estimate
        self._measure_defaults(budget, show)
        while not budget.spent:
            state = max(self.states.values(), key=lambda state: state.saving, default=None)
            if state is None or not state.saving:
                break
            self._search(state, budget)
            show(self)
        self._dispatch(self._measured())
        return self._decide(show)

    def _dispatch(self, records: Records) -> None:
        found = self.network.dispatched(records)
        self.footprint = min(found.footprint, int(CACHED * self.device.machine.l3_bytes))
        for state in self.states.values():
            state.calls = 0
        for task in found.compared:
            if task not in self.states:
                self.states[task] = self._state(task)
            self.states[task].calls = found.calls[task]

    def _state(self, task: Task) -> TaskState:
        """A new task, with what was measured of it before."""
        search = Search(task, self.device, self.seed)
        for trial in self._known[task.key]:
            if (candidate := candidate_of(trial, self.device.machine.kind)) is not None:
                search.observe(candidate.knobs, trial.seconds)
        return TaskState(search)

    def _teach(self) -> None:
        """Hand what was measured before to the models, whatever network it was for."""
        for trial in itertools.chain.from_iterable(self._known.values()):
            candidate = candidate_of(trial, self.device.machine.kind)
            if candidate is not None:
                with contextlib.suppress(
                    ArithmeticError, LookupError, TypeError, ValueError
                ):  # sizes that no layer has
                    self.models[trial.op].observe(candidate, trial.seconds, trial.is_default)
        for model in self.models.values():
            model.fit()

    def _measure_defaults(self, budget: Budget, show: Show) -> None:
        """Time the defaults of all tasks, those that run first."""
        waiting = [state for state in self.states.values() if state.search.default not in state.search.times]
        waiting.sort(key=lambda state: -state.calls)
        while waiting and not budget.spent:
            batch = waiting[: int(min(self.runner.width, budget.trials - budget.used))]
            waiting = waiting[len(batch) :]
            self._try([Candidate(state.search.task, state.search.default) for state in batch], budget)
            show(self)

    def _search(self, state: TaskState, budget: Budget) -> None:
        before, model = state.search.seconds, self.models[state.search.task.op]
        count = int(min(BATCH * self.runner.width, budget.trials - budget.used))
        self._try(state.search.propose(count, model), budget)
        model.fit()
        state.rounds += 1
        state.gain = 1 - state.search.seconds / before if before < math.inf else FIRST_GAIN
        state.stalled = 0 if state.gain > LEAST_GAIN else state.stalled + 1

    def _try(self, candidates: Sequence[Candidate], budget: Budget) -> None:
        """Run trials; they are on the disk before this returns."""
        outcomes = self.runner.run(candidates)
        budget.used += len(candidates)
        trials = [self._trial(*pair) for pair in zip(candidates, outcomes, strict=True)]
        append_records(self.path, trials)
        for candidate, outcome, trial in zip(candidates, outcomes, trials, strict=True):
            self.states[candidate.task].search.observe(candidate.knobs, outcome.seconds)
            self.models[candidate.task.op].observe(candidate, outcome.seconds, trial.is_default)
            if outcome.error is not None:
                self.failures[outcome.error] += 1
                log.info("%s %s: %s", candidate.task.op, candidate.knobs.to_json(), outcome.error)

    def _trial(self, candidate: Candidate, outcome: Outcome) -> Trial:
        op, problem = candidate.task.key
        return Trial(
            op=op, problem=problem, knobs=candidate.knobs.to_json(), conditions=self.conditions,
            processor=self.runner.processor, seconds=outcome.seconds, error=outcome.error,
            is_default=candidate.knobs == self.states[candidate.task].search.default,
        )  # fmt: skip

    def _measured(self) -> Records:
        """What dispatch would be told now."""
        return {
            task.key: Measured(state.search.best.to_json(), self._cycles(task, state.search.seconds))
            for task, state in self.states.items()
            if state.search.seconds < math.inf
        }

    def _decide(self, show: Show) -> list[Verdict]:
        """Verdicts on all tasks, which are on the disk."""
        found = []
        for state in self.states.values():
            if state.default_seconds < math.inf:
                found.append(self._verdict(state, self._contest(state)))
                append_records(self.path, found[-1:])
                show(self)
        return found

    def _contest(self, state: TaskState) -> Decision:
        """The fastest knobs of a task against its default, as the network finds them."""
        search = state.search
        fastest = search.fastest(FINALISTS) if state.calls else []
        rivals = [knobs for knobs in fastest if search.times[knobs] < state.default_seconds]
        candidates = [Candidate(search.task, knobs) for knobs in (search.default, *rivals)]
        times = self.runner.compare(candidates, TURNS, self.footprint)
        return decide(search.default, rivals, times or [[state.default_seconds] * TURNS])

    def _verdict(self, state: TaskState, decision: Decision) -> Verdict:
        op, problem = state.search.task.key
        return Verdict(
            op=op, problem=problem, knobs=decision.knobs.to_json(), conditions=self.conditions,
            processor=self.runner.processor, seconds=decision.seconds, default_seconds=decision.default_seconds,
            ratio=decision.ratio.median, low=decision.ratio.low, high=decision.ratio.high,
            cycles=self._cycles(state.search.task, decision.seconds),
        )  # fmt: skip

    def _cycles(self, task: Task, seconds: float) -> float | None:
        """What a task is set against other operators with; ``None`` where its time alone does not tell."""
        favour = INCUMBENT if task in self._incumbents else 1.0
        return None if task.op in PASSING else favour * seconds * self.runner.clock
