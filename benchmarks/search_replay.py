"""Searches replayed on landscapes, and what they are judged by. Nothing is measured here."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .search_landscapes import BATCH, Landscape

if TYPE_CHECKING:
    from tvm_fastconv.autotune.candidate import Device
    from tvm_fastconv.autotune.cost_model import CostModel
    from tvm_fastconv.topi.knobs import KnobSet

Trial = tuple["KnobSet", "float | None"]
"""Knobs and seconds, ``None`` where they failed."""

QUALITY = 0.95
"""Of the best speed: what a search is asked to reach."""

TRIALS = 64
"""After which a search is set against the sweep; also what is learnt of each of the first layers."""

WAYS = {
    "model": "default, estimate, then XGBoost",
    "estimate": "default, then the estimate alone",
    "default, random": "default, then by chance",
    "random": "by chance alone",
}
"""How the next trial may be chosen: all but the last begin with the default, as tuning does."""


@dataclass(frozen=True)
class Replay:
    """One search: its trials, in order."""

    trials: tuple[Trial, ...]

    def best(self, count: int) -> float:
        """Seconds of the fastest of the first ``count`` trials."""
        return min((s for _, s in self.trials[:count] if s is not None), default=math.inf)

    def needed(self, goal: float) -> int:
        """Trials until one takes no longer than ``goal`` seconds."""
        return next(n for n in range(1, len(self.trials) + 1) if self.best(n) <= goal)


def replay(
    landscape: Landscape,
    device: Device,
    seed: int,
    model: CostModel | None = None,
    way: str = "model",
    at_least: int = TRIALS,
) -> Replay:
    """Search a landscape, as tuning does, until ``at_least`` trials are made and `QUALITY` is reached.

    Parameters
    ----------
    model : CostModel, optional
        One that knows other layers; without, it starts with nothing. It learns from the trials.
    way : str
        One of `WAYS`.
    """
    from tvm_fastconv.autotune.cost_model import CostModel
    from tvm_fastconv.autotune.search import Search

    search = Search(landscape.task, device, seed, way in ("model", "estimate"), landscape.times)
    model = CostModel(device) if model is None else model
    trials: list[Trial] = []
    chance = random.Random(seed).sample(list(landscape.times), len(landscape.times))
    while not search.exhausted and (len(trials) < at_least or search.seconds > landscape.best / QUALITY):
        if way == "random":
            batch = chance[len(trials) : len(trials) + BATCH]
        else:
            batch = [each.knobs for each in search.propose(BATCH if trials else 1, model)]
        for knobs in batch:
            search.observe(knobs, landscape.times[knobs])
            trials.append((knobs, landscape.times[knobs]))
        if way == "model":
            teach(model, landscape, trials[-len(batch) :])
            model.fit()
    return Replay(tuple(trials))


def teach(model: CostModel, landscape: Landscape, trials: Iterable[Trial]) -> None:
    """Show trials to a model, which is still to be fitted."""
    from tvm_fastconv.autotune.candidate import Candidate

    for knobs, seconds in trials:
        model.observe(Candidate(landscape.task, knobs), seconds, knobs == landscape.default)


def taught(device: Device, op: str, known: Iterable[tuple[Landscape, Replay]]) -> CostModel:
    """A model that has learnt from the first trials of searches of an operator's layers."""
    from tvm_fastconv.autotune.cost_model import CostModel

    model = CostModel(device)
    for landscape, searched in known:
        if landscape.task.op == op:
            teach(model, landscape, searched.trials[:TRIALS])
    model.fit()
    return model


def judge(landscape: Landscape, runs: Mapping[str, Sequence[Replay]]) -> dict[str, Any]:
    """What came of the searches of one layer, a run for each seed, in every way of `WAYS`."""
    goal = landscape.best / QUALITY
    needed = {way: [run.needed(goal) for run in each] for way, each in runs.items()}
    return {
        **_facts(landscape),
        "reached": {way: [landscape.best / run.best(TRIALS) for run in each] for way, each in runs.items()},
        "needed": needed,
        "ratios": {way: _ratio(needed["model"], each) for way, each in needed.items() if way != "model"},
    }


def judge_taught(
    landscape: Landscape, device: Device, searched: Sequence[tuple[Landscape, Sequence[Replay]]]
) -> dict[str, Any]:
    """What it brings a layer that the model has learnt from searches of others, a run of each for each seed."""
    goal = landscape.best / QUALITY
    alone, learnt = [], []
    for seed in range(len(searched[0][1])):
        known = [(other, runs[seed]) for other, runs in searched]
        model = taught(device, landscape.task.op, known)
        alone.append(replay(landscape, device, seed).needed(goal))
        learnt.append(replay(landscape, device, seed, model).needed(goal))
    needed = {"alone": alone, "taught": learnt}
    return {**_facts(landscape), "needed": needed, "ratios": {"alone": _ratio(learnt, alone)}}


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Geometric means over layers of the ratios of trials, against each other way."""
    ways = rows[0]["ratios"]
    return {way: statistics.geometric_mean(row["ratios"][way] for row in rows) for way in ways}


def _facts(landscape: Landscape) -> dict[str, Any]:
    goal = landscape.best / QUALITY
    return {
        "layer": landscape.name,
        "legal": landscape.legal,
        "measured": len(landscape.times),
        "good": sum(seconds is not None and seconds <= goal for seconds in landscape.times.values()),
        "noise": landscape.noise,
        "best_ms": landscape.best * 1e3,
        "default": landscape.best / landscape.default_seconds,
    }


def _ratio(some: Sequence[int], others: Sequence[int]) -> float:
    """Of medians over seeds."""
    return statistics.median(some) / statistics.median(others)
