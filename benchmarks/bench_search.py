"""How good the search of tuning is: its trials against a sweep, against chance, and with what other layers taught it.

``python -m benchmarks.bench_search measure`` times the candidates of sixteen layers, on one core: 22 minutes, after
which ``python -m benchmarks.bench_search replay`` searches among these times as often as it likes, prints, and writes
``results/search.json``, ``results/search.svg`` (the best so far over trials) and ``results/search_model.svg`` (what the
model predicts over what was measured).

A space of more than 600 members is represented by some that chance has chosen, and by its default. They tell how many
trials it takes to come near the best of them; the best of the whole space may be faster, and is rarer.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options, results, search_landscapes, search_plots
from .runner import Settings
from .search_layers import first_layers, second_layers
from .search_replay import QUALITIES, TRIALS, WAYS, judge, judge_taught, summary
from .search_replay import replay as replay_one

if TYPE_CHECKING:
    from tvm_fastconv.autotune.candidate import Device

FIRST_SAMPLE, SECOND_SAMPLE = 300, 160
"""Members that stand for a large space, of the layers of `first_layers` and of `second_layers`."""

PLOTTED = 128
"""Trials that the plots show."""

TURN_SECONDS = 0.01
"""Of a trial."""


def native_device() -> Device:
    """One core of this machine."""
    from tvm_fastconv.autotune.candidate import Device
    from tvm_fastconv.machine_files import target_and_machine
    from tvm_fastconv.targets import spec_of

    target, machine = target_and_machine("native")
    return Device(spec_of(target), machine)


def measure(path: Path, settings: Settings) -> None:
    """Time what the file of landscapes lacks."""
    from tvm_fastconv.autotune.local_runner import LocalRunner

    with path.open("a") as file:
        file.write(json.dumps({"conditions": results.conditions(settings)}) + "\n")
    runner = LocalRunner(native_device(), workers=1)
    try:
        for number in range(search_landscapes.ROUNDS):
            search_landscapes.measure(first_layers(), FIRST_SAMPLE, runner, path, number)
            search_landscapes.measure(second_layers(), SECOND_SAMPLE, runner, path, number)
    finally:
        runner.close()


def replay(path: Path, settings: Settings, seeds: int, write: bool) -> dict[str, Any]:
    """Search the landscapes of a file, print what came of it, and write it if asked to."""
    device = native_device()
    first = search_landscapes.load(first_layers(), FIRST_SAMPLE, device, path)
    second = search_landscapes.load(second_layers(), SECOND_SAMPLE, device, path)
    runs = [
        {
            way: [replay_one(each, device, seed, way=way, at_least=PLOTTED) for seed in range(seeds)]
            for way in WAYS
        }
        for each in first
    ]
    searched = [(each, taken["model"]) for each, taken in zip(first, runs, strict=True)]
    found = {
        "first": [judge(each, taken) for each, taken in zip(first, runs, strict=True)],
        "second": [judge_taught(each, device, searched) for each in second],
    }
    title = results.describe(settings)
    show(found, title)
    if write:
        means = {name: summary(rows) for name, rows in found.items()}
        extra = {"seeds": seeds, "measured": search_landscapes.conditions(path), "means": means, **found}
        written = results.write_results(options.results_name("search", settings), settings, [], extra)
        search_plots.draw_trials(first, runs, written.with_suffix(".svg"), title, PLOTTED)
        model = written.with_name(f"{written.stem}_model.svg")
        search_plots.draw_predictions([(each, taken[0]) for each, taken in searched], device, model, title)
    return found


def show(found: dict[str, Any], title: str) -> None:
    """Print the layers, the trials that each way needs of them, and what the first layers taught the second."""
    out = results.console()
    out.print(_table(f"measured layers, {title}", found["first"] + found["second"], FACTS))
    for quality in QUALITIES:
        for rows in found.values():
            columns = {way: _median_of("needed", quality, way) for way in rows[0]["needed"][quality]}
            out.print(_table(f"trials to {quality} of the best speed, median of seeds", rows, columns))
            for kind in ("all", "short"):
                means = summary(rows)[quality][kind]
                text = ", ".join(f"{mean:.2f} of {way}" for way, mean in means.items())
                out.print(f"{KINDS[kind]}: {text or 'none'}", markup=False)
    out.print(_table("order before the first trial, rank correlation", found["second"], ORDER))
    out.print(_table(f"best of {TRIALS} trials over the best of all", found["first"], REACHED))
    out.print("; ".join(f"{way}: {text}" for way, text in WAYS.items()), markup=False)


def _table(title: str, rows: Sequence[dict[str, Any]], columns: Mapping[str, Callable[[Any], str]]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("layer")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row["layer"], *(cell(row) for cell in columns.values()))
    return table


def _median_of(*keys: str) -> Callable[[dict[str, Any]], str]:
    """The median of a list inside a row, as text."""
    return lambda row: f"{statistics.median(functools.reduce(operator.getitem, keys, row)):g}"


FACTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "knobs measured of legal": lambda row: f"{row['measured']} of {row['legal']}",
    "noise": lambda row: f"{row['noise']:.1%}",
    "best ms": lambda row: f"{row['best_ms']:.4f}",
    "best / default": lambda row: f"{row['default']:.3f}",
    **{f"knobs at {name}": lambda row, name=name: str(row["good"][name]) for name in QUALITIES},  # type: ignore[misc]
}
ORDER: dict[str, Callable[[dict[str, Any]], str]] = {
    "of the estimate": lambda row: f"{row['ranks']['estimate']:.2f}",
    "of the model, taught": lambda row: f"{row['ranks'].get('taught', math.nan):.2f}",
}
REACHED: dict[str, Callable[[dict[str, Any]], str]] = {
    "median": lambda row: f"{statistics.median(row['reached']['model']):.3f}",
    "worst": lambda row: f"{min(row['reached']['model']):.3f}",
    "by chance": lambda row: f"{statistics.median(row['reached']['random']):.3f}",
}
KINDS = {
    "all": "geometric mean of the ratios of trials, all layers",
    "short": "the same of layers whose default falls short of that",
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("step", choices=("measure", "replay"))
    parser.add_argument(
        "--landscapes",
        type=Path,
        default=Path("landscapes.jsonl"),
        help="the file of times (default %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=5, help="searches of each layer in each way (default 5)")
    given = parser.parse_args()
    settings = options.settings_of(given, TURN_SECONDS)
    if given.step == "measure":
        measure(given.landscapes, settings)
    else:
        replay(given.landscapes, settings, given.seeds, not given.no_write)


if __name__ == "__main__":
    main()
