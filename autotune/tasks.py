"""The tasks of a network: what was measured of them, what is tried next, and what they ended with."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from tvm_fastconv.topi.planner import Measured, Records

from .candidate import Candidate, Device, Outcome, Task
from .contest import Decision
from .cost_model import CostModel
from .network import Network
from .record_sets import holding, parse_candidate
from .records import Conditions, Line, Trial, Verdict, append_records
from .search import Search
from .task_state import TaskState

log = logging.getLogger(__name__)

BATCH = 8
"""Trials of a task after which is looked at what they have saved."""

FINALISTS = 3
"""Knobs of each task that are set against the default at the end."""

INCUMBENT = 0.95
"""Times its cycles, what runs untuned is set against other operators: it stays where these are hardly faster."""

PASSING = ("chain",)
"""Operators whose gain is what does not pass through memory: times of tasks do not tell it, estimates go on to."""


class Tasks:
    """The tasks of a network on one device.

    Parameters
    ----------
    network : Network
    device : Device
    conditions : Conditions
    path : str
        The file of records that grows.
    clock : float
        Cycles of the device in a second.
    processor : str
        What the device calls its processor.
    lines : sequence of Line
        What was measured before; nothing of it is measured again.
    seed : int
    """

    def __init__(
        self,
        network: Network,
        device: Device,
        conditions: Conditions,
        path: str,
        clock: float,
        processor: str,
        lines: Sequence[Line] = (),
        seed: int = 0,
    ) -> None:
        self.network, self.device, self.conditions, self.path = network, device, conditions, path
        self.clock, self.processor, self.seed = clock, processor, seed
        self.states: dict[Task, TaskState] = {}
        self.footprint = 0
        self.models: dict[str, CostModel] = defaultdict(lambda: CostModel(self.device))
        self.failures: Counter[str] = Counter()
        self._known: dict[tuple[str, str], list[Trial]] = defaultdict(list)
        ours = [line for line in lines if line.conditions == conditions]
        self.verdicts = {verdict.task: verdict for verdict in holding(ours)}
        self.undecided: set[tuple[str, str]] = set()
        for line in ours:
            if isinstance(line, Trial):
                self._known[line.task].append(line)
                self.undecided.add(line.task)
            else:
                self.undecided.discard(line.task)
        self._teach()
        self._dispatch({})
        self._incumbents = {task for task, state in self.states.items() if state.calls}

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

    def dispatch(self) -> None:
        """Ask the network what runs, now that more was measured: other operators may than by estimate."""
        self._dispatch(self._measured())

    def propose_defaults(self, count: int) -> list[Candidate]:
        """Up to ``count`` defaults that were not asked for before, of tasks that run first."""
        searches = [state.search for state in sorted(self.states.values(), key=lambda state: -state.calls)]
        fresh = [search for search in searches if search.default not in search.asked]
        return [candidate for search in fresh[:count] for candidate in search.propose(1, None)]

    def propose(self, state: TaskState, count: int) -> list[Candidate]:
        """Up to ``count`` candidates of a task, which are asked for from now on."""
        return state.search.propose(count, self.models[state.search.task.op])

    def finalists(self, state: TaskState) -> list[Candidate]:
        """A task's default, and the knobs that were faster than it: what its contest is between."""
        search = state.search
        fastest = search.fastest(FINALISTS) if state.calls else []
        rivals = [knobs for knobs in fastest if search.times[knobs] < state.default_seconds]
        return [Candidate(search.task, knobs) for knobs in (search.default, *rivals)]

    def observe(self, candidates: Sequence[Candidate], outcomes: Sequence[Outcome]) -> None:
        """Learn from trials; they are on the disk before this returns."""
        if not candidates:
            return
        trials = [self._trial(*pair) for pair in zip(candidates, outcomes, strict=True)]
        append_records(self.path, trials)
        for candidate, outcome, trial in zip(candidates, outcomes, trials, strict=True):
            self.states[candidate.task].search.observe(candidate.knobs, outcome.seconds)
            self.models[candidate.task.op].observe(candidate, outcome.seconds, trial.is_default)
            self.undecided.add(candidate.task.key)
            if outcome.error is not None:
                self.failures[outcome.error] += 1
                log.info("%s %s: %s", candidate.task.op, candidate.knobs.to_json(), outcome.error)
        for op in {candidate.task.op for candidate in candidates}:
            self.models[op].fit()

    def judge(self, task: Task, decision: Decision) -> Verdict:
        """Write down what a task's contest ended with."""
        op, problem = task.key
        verdict = Verdict(
            op=op, problem=problem, knobs=decision.knobs.to_json(), conditions=self.conditions,
            processor=self.processor, seconds=decision.seconds, default_seconds=decision.default_seconds,
            ratio=decision.ratio.median, low=decision.ratio.low, high=decision.ratio.high,
            cycles=self._cycles(task, decision.seconds),
        )  # fmt: skip
        append_records(self.path, [verdict])
        self.verdicts[task.key] = verdict
        self.undecided.discard(task.key)
        return verdict

    def _dispatch(self, records: Records) -> None:
        found = self.network.dispatched(records)
        self.footprint = min(found.footprint, self.device.machine.own_l3_bytes)
        for state in self.states.values():
            state.calls = 0
        for task in found.compared:
            if task not in self.states:
                self.states[task] = self._state(task)
            self.states[task].calls = found.calls[task]

    def _state(self, task: Task) -> TaskState:
        """A new task, as the search of it stood after what was measured before."""
        search = Search(task, self.device, self.seed)
        state = TaskState(search, search.default.cycles(task.problem, self.device.machine) / self.clock)
        trials = self._known[task.key]
        for first in range(0, len(trials), BATCH):
            before = search.seconds
            for trial in trials[first : first + BATCH]:
                if (candidate := self._candidate(trial)) is not None:
                    search.observe(candidate.knobs, trial.seconds)
            state.note_batch(before)
        return state

    def _teach(self) -> None:
        """Hand what was measured before to the models, whatever network it was for."""
        for trial in itertools.chain.from_iterable(self._known.values()):
            if (candidate := self._candidate(trial)) is not None:
                # A file may hold sizes that no layer has.
                with contextlib.suppress(ArithmeticError, LookupError, TypeError, ValueError):
                    self.models[trial.op].observe(candidate, trial.seconds, trial.is_default)
        for model in self.models.values():
            model.fit()

    def _candidate(self, trial: Trial) -> Candidate | None:
        return parse_candidate(trial.op, trial.problem, trial.knobs, self.device.machine.kind)

    def _trial(self, candidate: Candidate, outcome: Outcome) -> Trial:
        op, problem = candidate.task.key
        return Trial(
            op=op, problem=problem, knobs=candidate.knobs.to_json(), conditions=self.conditions,
            processor=self.processor, seconds=outcome.seconds, error=outcome.error,
            is_default=candidate.knobs == self.states[candidate.task].search.default,
        )  # fmt: skip

    def _measured(self) -> Records:
        """What dispatch would be told now."""
        return {
            task.key: Measured(state.search.best.to_json(), self._cycles(task, state.search.seconds))
            for task, state in self.states.items()
            if state.search.seconds < math.inf
        }

    def _cycles(self, task: Task, seconds: float) -> float | None:
        """What a task is set against other operators with; ``None`` where its time alone does not tell."""
        favour = INCUMBENT if task in self._incumbents else 1.0
        return None if task.op in PASSING else favour * seconds * self.clock
