"""How good the search of tuning is: its trials against a sweep, against chance, and with what other layers taught it.

``python -m benchmarks.bench_search measure`` times the candidates of sixteen layers, on one core: 25 minutes, after
which ``python -m benchmarks.bench_search replay`` searches among these times as often as it likes, prints, and writes
``results/search.json``, ``results/search.svg`` (the best so far over trials) and ``results/search_model.svg`` (what the
model predicts over what was measured). A space of more than 600 members is represented by some that chance has chosen,
and the sweep is one of these.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options, results, search_landscapes, search_plots
from .runner import Settings
from .search_layers import first_layers, second_layers
from .search_replay import QUALITY, TRIALS, WAYS, judge, judge_taught, summary
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
    """Print a table of the first layers, and one of the second."""
    from rich.table import Table

    out = results.console()
    heading = f"trials to {QUALITY:.0%} of the best speed, median of seeds, {title}"
    table = Table(title=heading, title_justify="left")
    columns = ("members", "good", "noise", "default", f"after {TRIALS}", "worst", *WAYS)
    for column in ("layer", *columns):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for row in found["first"]:
        reached = row["reached"]["model"]
        table.add_row(
            *_facts(row), f"{statistics.median(reached):.3f}", f"{min(reached):.3f}",
            *(f"{statistics.median(row['needed'][way]):g}" for way in WAYS),
        )  # fmt: skip
    out.print(table)
    out.print(
        "members: measured of legal; good: members that reach it; default, after, worst: of the best speed"
    )
    out.print("; ".join(f"{way}: {text}" for way, text in WAYS.items()), markup=False)
    for way, mean in summary(found["first"]).items():
        out.print(f"with the model, {mean:.2f} times the trials of {way} (geometric mean of the layers)")
    table = Table(
        title="the same of other layers, without and with the first ones' trials", title_justify="left"
    )
    for column in ("layer", *columns[:4], "alone", "taught"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for row in found["second"]:
        table.add_row(*_facts(row), *(f"{statistics.median(each):g}" for each in row["needed"].values()))
    out.print(table)
    mean = summary(found["second"])["alone"]
    out.print(f"taught, {mean:.2f} times the trials of alone (geometric mean of the layers)")


def _facts(row: dict[str, Any]) -> tuple[str, ...]:
    size = f"{row['measured']} of {row['legal']}"
    return row["layer"], size, str(row["good"]), f"{row['noise']:.1%}", f"{row['default']:.3f}"


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
