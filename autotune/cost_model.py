"""The cost model: gradient-boosted trees (XGBoost) that learn from every trial of an operator how knobs compare.

What is learnt is the logarithm of a candidate's time over that of its task's default knobs, so that trials of other
tasks teach as well: a new shape starts from its neighbours (T. Chen et al., Learning to Optimize Tensor Programs, 2018,
section 4).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from .candidate import Candidate, Device, Task
from .features import Features, features

MIN_TRIALS = 12
"""Below which trees of these know nothing."""

ROUNDS, DEPTH, RATE = 60, 5, 0.15
FAILED = math.log(4.0)
"""What a candidate without an answer counts as: slower than all that have one."""


class CostModel:
    """How candidates of one operator compare, learnt from trials.

    Parameters
    ----------
    device : Device
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._trials: dict[Task, list[tuple[Features, float | None]]] = defaultdict(list)
        self._defaults: dict[Task, float] = {}
        self._names: list[str] = []
        self._booster: object | None = None

    def observe(self, candidate: Candidate, seconds: float | None, is_default: bool) -> None:
        """Add a trial."""
        self._trials[candidate.task].append((features(candidate, self.device), seconds))
        if is_default and seconds is not None:
            self._defaults[candidate.task] = seconds

    def fit(self) -> None:
        """Learn from all trials of tasks whose default was timed."""
        known = [
            (found, FAILED if seconds is None else math.log(seconds / self._defaults[task]))
            for task, trials in self._trials.items()
            if task in self._defaults
            for found, seconds in trials
        ]
        if len(known) < MIN_TRIALS:
            return
        import xgboost

        self._names = sorted({name for found, _ in known for name in found})
        data = xgboost.DMatrix(self._matrix([found for found, _ in known]), np.array([y for _, y in known]))
        options = {
            "objective": "reg:squarederror", "max_depth": DEPTH, "eta": RATE, "nthread": 1, "seed": 0,
            "min_child_weight": 1, "lambda": 1.0, "subsample": 0.9, "verbosity": 0,
        }  # fmt: skip
        self._booster = xgboost.train(options, data, ROUNDS)

    def predict(self, candidates: Sequence[Candidate]) -> np.ndarray | None:
        """The logarithm of each one's time over its default's; ``None`` before there is anything to go by."""
        if self._booster is None:
            return None
        import xgboost

        matrix = self._matrix([features(candidate, self.device) for candidate in candidates])
        return self._booster.predict(xgboost.DMatrix(matrix))  # type: ignore[attr-defined]

    def _matrix(self, rows: Sequence[Features]) -> np.ndarray:
        return np.array([[row.get(name, np.nan) for name in self._names] for row in rows], np.float32)
