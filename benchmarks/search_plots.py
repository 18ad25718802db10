"""Plots of searches: the best so far over trials, and what the model predicts over what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .search_landscapes import Landscape
from .search_replay import TRIALS, WAYS, Replay, rank_correlation, taught

if TYPE_CHECKING:
    from tvm_fastconv.autotune.candidate import Device

COLUMNS = 4
"""Panels in a row."""

LINES = {"model": "-", "estimate": "--", "default, random": "-.", "random": ":"}
"""Of `WAYS`."""


def draw_trials(
    landscapes: Sequence[Landscape],
    runs: Sequence[Mapping[str, Sequence[Replay]]],
    path: Path,
    title: str,
    count: int,
) -> None:
    """One panel for each layer: best milliseconds, median of the seeds, after each of the first ``count`` trials."""
    figure, axes = _panels(len(landscapes))
    for axis, landscape, ways in zip(axes, landscapes, runs, strict=True):
        trials = range(1, min(count, len(landscape.times)) + 1)
        for way in WAYS:
            best = [statistics.median(run.best(n) for run in ways[way]) * 1e3 for n in trials]
            axis.plot(trials, best, LINES[way], label=way)
        axis.axhline(landscape.default_seconds * 1e3, color="gray", linewidth=0.8, label="default")
        axis.axhline(landscape.best * 1e3, color="black", linewidth=0.8, label="best of the sweep")
        axis.set(ylim=(0.95 * landscape.best * 1e3, 1.6 * landscape.best * 1e3), xlabel="trials", ylabel="ms")
        axis.set_xscale("log")
        axis.set_title(landscape.name, fontsize="small")
    axes[0].legend(fontsize="x-small")
    _save(figure, path, title)


def draw_predictions(
    searched: Sequence[tuple[Landscape, Replay]], device: Device, path: Path, title: str
) -> None:
    """One panel for each layer: what a model that knows its first trials predicts of the other members."""
    figure, axes = _panels(len(searched))
    for axis, (landscape, run) in zip(axes, searched, strict=True):
        measured, predicted = predictions(landscape, run, device)
        both = [measured.min() * 0.9, measured.max() * 1.1]
        axis.loglog(measured, predicted, ".", markersize=3)
        axis.loglog(both, both, color="gray", linewidth=0.8)
        axis.set(xlabel="measured ms", ylabel="predicted ms")
        axis.tick_params(which="both", labelsize="x-small")
        axis.set_title(
            f"{landscape.name}\nrank correlation {rank_correlation(measured, predicted):.2f}",
            fontsize="small",
        )
    _save(figure, path, title)


def predictions(landscape: Landscape, run: Replay, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of members that a search's first `TRIALS` lack: measured, and by a model that has learnt from these.

    Shape (members,) each, float64.
    """
    from tvm_fastconv.autotune.candidate import Candidate

    model = taught(device, landscape.task.op, [(landscape, run)])
    known = {knobs for knobs, _ in run.trials[:TRIALS]}
    unknown = [
        knobs for knobs, seconds in landscape.times.items() if seconds is not None and knobs not in known
    ]
    logs: Any = model.predict([Candidate(landscape.task, knobs) for knobs in unknown])
    measured = np.array([landscape.times[knobs] for knobs in unknown], np.float64)
    return measured * 1e3, np.exp(logs.astype(np.float64)) * landscape.default_seconds * 1e3


def _panels(count: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    rows = -(-count // COLUMNS)
    figure = Figure(figsize=(3.2 * min(count, COLUMNS), 2.8 * rows), layout="constrained")
    axes = list(figure.subplots(rows, min(count, COLUMNS), squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def _save(figure: Any, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize="small")
    figure.savefig(path)
