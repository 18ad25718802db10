"""Tunes a network on a device that is at hand: which task is searched next, until the budget is spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .candidate import Candidate
from .contest import TURNS, decide
from .local_runner import Runner
from .records import Verdict
from .task_state import TaskState
from .tasks import BATCH, Tasks


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


Show = Callable[[Tasks], None]


class Tuner:
    """Searches the tasks of a network.

    Parameters
    ----------
    tasks : Tasks
    runner : Runner
    budget : Budget
    show : callable, optional
        Called whenever something was measured.
    """

    def __init__(self, tasks: Tasks, runner: Runner, budget: Budget, show: Show = lambda tasks: None) -> None:
        self.tasks, self.runner, self.budget, self.show = tasks, runner, budget, show

    def run(self) -> list[Verdict]:
        """Search until the budget is spent or nothing is left to expect; returns the verdicts."""
        self._measure_defaults()
        self.tasks.dispatch()
        self._measure_defaults()
        while not self.budget.spent:
            state = max(self.tasks.states.values(), key=lambda state: state.saving, default=None)
            if state is None or not state.saving:
                break
            self._search(state)
        self.tasks.dispatch()
        return self._decide()

    def _measure_defaults(self) -> None:
        """Time the defaults of all tasks, those that run first."""
        while not self.budget.spent:
            candidates = self.tasks.propose_defaults(self._count(self.runner.width))
            if not candidates:
                return
            self._try(candidates)

    def _search(self, state: TaskState) -> None:
        before = state.search.seconds
        self._try(self.tasks.propose(state, self._count(max(BATCH, self.runner.width))))
        state.note_batch(before)

    def _count(self, most: int) -> int:
        return int(min(most, self.budget.trials - self.budget.used))

    def _try(self, candidates: Sequence[Candidate]) -> None:
        outcomes = self.runner.run(candidates)
        self.budget.used += len(candidates)
        self.tasks.observe(candidates, outcomes)
        self.show(self.tasks)

    def _decide(self) -> list[Verdict]:
        """Verdicts on all tasks, as the network finds them."""
        found = []
        for task, state in self.tasks.states.items():
            if state.default_seconds < math.inf:
                candidates = self.tasks.finalists(state)
                times = self.runner.compare(candidates, TURNS, self.tasks.footprint)
                knobs = [candidate.knobs for candidate in candidates]
                decision = decide(knobs, times or [[state.default_seconds] * TURNS])
                found.append(self.tasks.judge(task, decision))
                self.show(self.tasks)
        return found
