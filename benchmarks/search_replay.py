"""Searches replayed on landscapes, and what they are judged by. Nothing is measured here."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .search_landscapes import BATCH, Landscape

if TYPE_CHECKING:
    from tvm_fastconv.autotune.candidate import Device
    from tvm_fastconv.autotune.cost_model import CostModel
    from tvm_fastconv.topi.knobs import KnobSet

Trial = tuple["KnobSet", "float | None"]
"""Knobs and seconds, ``None`` where they failed."""

QUALITIES = {"95 %": 0.95, "99 %": 0.99}
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
    """Search a landscape, as tuning does, until ``at_least`` trials are made and all `QUALITIES` are reached.

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
    goal = landscape.best / max(QUALITIES.values())
    chance = random.Random(seed).sample(list(landscape.times), len(landscape.times))
    while not search.exhausted and (len(trials) < at_least or search.seconds > goal):
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


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's: 1 where both have the same order, 0 where one has none."""
    orders = [_ranks(values) for values in (a, b)]
    constant = any(np.ptp(order) == 0 for order in orders)
    return 0.0 if constant else float(np.corrcoef(*orders)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Place of each value in their order; equal ones share the middle of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def judge(landscape: Landscape, runs: Mapping[str, Sequence[Replay]]) -> dict[str, Any]:
    """What came of the searches of one layer, a run for each seed, in every way of `WAYS`."""
    reached = {way: [landscape.best / run.best(TRIALS) for run in each] for way, each in runs.items()}
    return {**_facts(landscape), "reached": reached, **_trials(landscape, runs, "model")}


def judge_taught(
    landscape: Landscape, device: Device, searched: Sequence[tuple[Landscape, Sequence[Replay]]]
) -> dict[str, Any]:
    """What it brings a layer that the model has learnt from searches of others, a run of each for each seed."""
    runs: dict[str, list[Replay]] = {"alone": [], "taught": []}
    ranks = []
    for seed in range(len(searched[0][1])):
        model = taught(device, landscape.task.op, [(other, taken[seed]) for other, taken in searched])
        ranks.append(ranked(landscape, device, model))
        runs["alone"].append(replay(landscape, device, seed))
        runs["taught"].append(replay(landscape, device, seed, model))
    order = {key: statistics.median(each[key] for each in ranks) for key in ranks[0]}
    return {**_facts(landscape), "ranks": order, **_trials(landscape, runs, "taught")}


def ranked(landscape: Landscape, device: Device, model: CostModel) -> dict[str, float]:
    """How well estimate and model order a layer before its first trial: rank correlations with what was measured."""
    from tvm_fastconv.autotune.candidate import Candidate

    timed = [(knobs, seconds) for knobs, seconds in landscape.times.items() if seconds is not None]
    measured = np.array([seconds for _, seconds in timed])
    problem, machine = landscape.task.problem, device.machine
    estimated = np.array([knobs.cycles(problem, machine) for knobs, _ in timed])
    predicted = model.predict([Candidate(landscape.task, knobs) for knobs, _ in timed])
    found = {"estimate": rank_correlation(estimated, measured)}
    return found if predicted is None else found | {"taught": rank_correlation(predicted, measured)}


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each quality, geometric means of the ratios of trials: of all layers, and where the default falls short."""
    found = {}
    for name, quality in QUALITIES.items():
        short = [row for row in rows if row["default"] < quality]
        found[name] = {
            "all": _means(rows, name),
            "short": _means(short, name),
            "layers that fall short": len(short),
        }
    return found


def _means(rows: Sequence[Mapping[str, Any]], quality: str) -> dict[str, float]:
    ways = rows[0]["ratios"][quality] if rows else ()
    return {way: statistics.geometric_mean(row["ratios"][quality][way] for row in rows) for way in ways}


def _trials(landscape: Landscape, runs: Mapping[str, Sequence[Replay]], judged: str) -> dict[str, Any]:
    """Trials to each quality, and the ratio of the judged way's median over seeds to each other one's."""
    needed = {
        name: {way: [run.needed(landscape.best / quality) for run in each] for way, each in runs.items()}
        for name, quality in QUALITIES.items()
    }
    medians = {name: {way: statistics.median(n) for way, n in each.items()} for name, each in needed.items()}
    ratios = {
        name: {way: each[judged] / median for way, median in each.items() if way != judged}
        for name, each in medians.items()
    }
    return {"needed": needed, "ratios": ratios}


def _facts(landscape: Landscape) -> dict[str, Any]:
    goals = {name: landscape.best / quality for name, quality in QUALITIES.items()}
    timed = [seconds for seconds in landscape.times.values() if seconds is not None]
    return {
        "layer": landscape.name,
        "legal": landscape.legal,
        "measured": len(landscape.times),
        "failed": len(landscape.times) - len(timed),
        "good": {name: sum(seconds <= goal for seconds in timed) for name, goal in goals.items()},
        "noise": landscape.noise,
        "best_ms": landscape.best * 1e3,
        "default": landscape.best / landscape.default_seconds,
    }
