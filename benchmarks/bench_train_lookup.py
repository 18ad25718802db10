"""Lookup layers of several densities on Fashion-MNIST: the density that training reaches, accuracy against time.

``python -m benchmarks.bench_train_lookup --folder DIR`` writes ``results/train_lookup.json`` and ``.svg``.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from tvm_fastconv.configs import Lookup, Method
from tvm_fastconv.train.data import load_data
from tvm_fastconv.train.models.all_cnn import PLANS

from . import options, results
from .bench_train_fashion import SETTINGS, WAYS, WIDTH, job_of
from .trainings import measure, trained

DENSITIES = (0.02, 0.05, 0.1, 0.2)
SHORT = replace(SETTINGS, epochs=3)


def methods_of(density: float) -> dict[str, Method]:
    """As many atoms as inputs for every inner 3×3 convolution."""
    found: dict[str, Method] = {}
    channels = 0
    for number, layer in enumerate(PLANS["all_cnn_c"], 1):
        if number > 1 and layer.kernel > 1:
            found[f"block{number}.conv"] = Lookup(dictionary_size=channels, density=density)
        channels = round(WIDTH * (layer.outputs or 0))
    return found


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Accuracy against milliseconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, row in rows.items():
        axes.plot(
            row["milliseconds"], 100 * row["compiled_top1"], "o", color="tab:blue" if row["reached"] else "k"
        )
        axes.annotate(name, (row["milliseconds"], 100 * row["compiled_top1"]), fontsize=8)
    axes.set(xlabel="milliseconds", ylabel="right, %")
    axes.grid(alpha=0.3)
    figure.savefig(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--folder", type=Path, required=True, help="for the trainings")
    parser.add_argument("--only-train", action="store_true", help="and measure nothing")
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.0)
    data, rows = load_data("fashion-mnist"), {}
    dense = job_of(WAYS["dense"], SHORT)
    jobs = {"dense": dense} | {f"{d:.0%}": replace(dense, methods=methods_of(d)) for d in DENSITIES}
    for name, job in jobs.items():
        history = trained(job, given.folder / name.strip("%")).history
        reached = [value for key, value in history[-1].items() if key.startswith("density/")]
        if not given.only_train:
            rows[name] = measure(
                given.folder / name.strip("%"), given.folder / "dense", data, settings.threads
            )
            rows[name]["reached"] = statistics.mean(reached) if reached else None
            rows[name]["reached_by_layer"] = reached
            print(name, rows[name], flush=True)
    if rows and not given.no_write:
        results.write_results("train_lookup", settings, [], {"densities": rows})
        draw(rows, results.RESULTS / "train_lookup.svg")


if __name__ == "__main__":
    main()
