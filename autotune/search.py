"""The search of one task: which knobs to try next, after what has been tried.

Small spaces are scored whole. In others a population evolves over the legal knobs (one field mutated, two parents
crossed). Scores are the cost model's, or the estimate's until there is one; a few of a batch are random (ε-greedy).
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterable
from typing import Any

from tvm_fastconv.topi.knobs import KnobSet
from tvm_fastconv.topi.operators import operator_of

from .candidate import Candidate, Device, Task
from .cost_model import CostModel

POOL = 1500
"""Knobs that are scored one by one; larger spaces are searched by evolution."""

PARENTS, CHILDREN, GENERATIONS = 48, 256, 4
EPSILON = 0.15


class Search:
    """Proposes candidates of one task, and remembers what came of them.

    Parameters
    ----------
    task : Task
    device : Device
    seed : int
    guided : bool
        Whether model and estimate are asked; without, it is a random search, to compare with.
    space : iterable of KnobSet, optional
        What is searched beside the default; without, all knobs that are legal.

    Raises
    ------
    LookupError
        The operator has no knobs for this problem.
    """

    def __init__(
        self,
        task: Task,
        device: Device,
        seed: int = 0,
        guided: bool = True,
        space: Iterable[KnobSet] | None = None,
    ) -> None:
        kind = operator_of(device.machine.kind, task.op).knobs
        default = kind.default(task.problem, device.machine)
        if default is None:
            raise LookupError(f"{task.op} has no knobs for {task.problem.key}")
        self.task, self.device, self.guided = task, device, guided
        self.default: KnobSet = default
        members = kind.space(task.problem, device.machine) if space is None else space
        self.space: dict[KnobSet, None] = dict.fromkeys([default, *members])
        self.times: dict[KnobSet, float] = {}
        self.asked: set[KnobSet] = set()
        self._random = random.Random(seed)
        self._members = list(self.space)
        self._values = {
            field.name: list(dict.fromkeys(getattr(knobs, field.name) for knobs in self._members))
            for field in dataclasses.fields(default)
        }

    @property
    def exhausted(self) -> bool:
        """Whether everything has been asked for."""
        return len(self.asked) == len(self.space)

    @property
    def best(self) -> KnobSet:
        """The fastest knobs so far; the default before there are any."""
        return min(self.times, key=lambda knobs: self.times[knobs], default=self.default)

    @property
    def seconds(self) -> float:
        """Of the best; infinite before anything was timed."""
        return min(self.times.values(), default=math.inf)

    def fastest(self, count: int) -> list[KnobSet]:
        """The fastest knobs that have a time."""
        timed = [knobs for knobs, seconds in self.times.items() if seconds < math.inf]
        return sorted(timed, key=lambda knobs: self.times[knobs])[:count]

    def observe(self, knobs: KnobSet, seconds: float | None) -> None:
        """Remember a trial; ``None`` is one that failed."""
        if knobs in self.space:
            self.asked.add(knobs)
            self.times[knobs] = math.inf if seconds is None else seconds

    def propose(self, count: int, model: CostModel | None) -> list[Candidate]:
        """Up to ``count`` candidates that were not asked for before; the default is the first of all."""
        chosen: dict[KnobSet, None] = {}
        if self.default not in self.asked:
            chosen[self.default] = None
        untried = len(self.space) - len(self.asked)
        count = min(count, untried)
        if self.guided:
            greedy = (
                count - sum(self._random.random() < EPSILON for _ in range(count))
                if untried > count
                else count
            )
            for knobs in self._promising(model):
                if len(chosen) >= greedy:
                    break
                chosen[knobs] = None
        while len(chosen) < count:
            knobs = self._random.choice(self._members)
            if knobs not in self.asked:
                chosen[knobs] = None
        proposed = list(chosen)[:count]
        self.asked.update(proposed)
        return [Candidate(self.task, knobs) for knobs in proposed]

    def _promising(self, model: CostModel | None) -> list[KnobSet]:
        """Untried knobs, the best first."""
        if len(self._members) <= POOL:
            scores = self._scores([knobs for knobs in self._members if knobs not in self.asked], model)
        else:
            scores = self._evolved(model)
        return sorted((knobs for knobs in scores if knobs not in self.asked), key=scores.__getitem__)

    def _scores(self, pool: list[KnobSet], model: CostModel | None) -> dict[KnobSet, float]:
        predicted = model.predict([Candidate(self.task, knobs) for knobs in pool]) if model and pool else None
        if predicted is not None:
            return dict(zip(pool, predicted.tolist(), strict=True))
        return {knobs: knobs.cycles(self.task.problem, self.device.machine) for knobs in pool}

    def _evolved(self, model: CostModel | None) -> dict[KnobSet, float]:
        """Scores of what evolution from the fastest, the default and random members of the space leads to."""
        random_ones = self._random.sample(self._members, CHILDREN)
        parents = list(dict.fromkeys([self.default, *self.fastest(PARENTS // 2), *random_ones]))
        seen: dict[KnobSet, float] = {}
        for _ in range(GENERATIONS):
            seen |= self._scores([knobs for knobs in parents if knobs not in seen], model)
            fittest = sorted(seen, key=lambda knobs: seen[knobs])[:PARENTS]
            parents = list(dict.fromkeys(self._children(fittest)))
        return seen

    def _children(self, parents: list[KnobSet]) -> Iterable[KnobSet]:
        for _ in range(CHILDREN):
            one, other = self._random.choice(parents), self._random.choice(parents)
            child = self._crossed(one, other) if self._random.random() < 0.3 else self._mutated(one)
            if child is not None:
                yield child

    def _mutated(self, knobs: KnobSet) -> KnobSet | None:
        """``knobs`` with another value of one field, if that is legal."""
        name = self._random.choice(list(self._values))
        return self._legal(knobs, {name: self._random.choice(self._values[name])})

    def _crossed(self, one: KnobSet, other: KnobSet) -> KnobSet | None:
        """Each field of one of both, if that is legal."""
        taken = {name: getattr(other, name) for name in self._values if self._random.random() < 0.5}
        return self._legal(one, taken)

    def _legal(self, knobs: Any, changes: dict[str, Any]) -> KnobSet | None:
        try:
            child = dataclasses.replace(knobs, **changes)
        except ValueError:
            return None
        return child if child in self.space else None
