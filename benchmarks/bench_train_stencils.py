"""fxnn's claim: fixed stencils learn faster than free 3×3 convolutions, at equal iterations and architecture.

``python -m benchmarks.bench_train_stencils --folder DIR`` trains both on digits and Fashion-MNIST with several seeds.
The areas under the curves of the test errors are in ``results/train_stencils.json``, the curves in
``results/train_stencils.svg``.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from tvm_fastconv.train.recipes import fixed_stencils

from . import options, results
from .trainings import trained

SEEDS = 5
EPOCHS = {"digits": 30, "fashion-mnist": 3}


def curves(data: str, fixed: bool, seeds: int, folder: Path) -> list[list[float]]:
    """Test errors after each epoch, for each seed."""
    found = []
    for seed in range(seeds):
        job = fixed_stencils(data, fixed, epochs=EPOCHS[data], seed=seed)
        if data == "digits":  # 45 steps an epoch; fxnn's 64 images would be 22
            job = replace(job, settings=replace(job.settings, batch_size=32))
        history = trained(job, folder / f"{data}-{'fixed' if fixed else 'plain'}-{seed}").history
        found.append([1 - row["top1"] for row in history])
    return found


def summary(errors: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Mean areas (mean errors over the epochs), last errors, and in how many seeds the stencils' area is smaller."""
    areas = {kind: [statistics.mean(curve) for curve in found] for kind, found in errors.items()}
    return {
        "area": {kind: statistics.mean(each) for kind, each in areas.items()},
        "last_error": {kind: statistics.mean(curve[-1] for curve in found) for kind, found in errors.items()},
        "fixed_is_less": sum(a < b for a, b in zip(areas["fixed"], areas["plain"], strict=True)),
        "errors": errors,
    }


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Mean test errors over the epochs, with the range of the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, (data, row) in zip(figure.subplots(1, len(rows), squeeze=False)[0], rows.items(), strict=True):
        for kind, found in row["errors"].items():
            epochs = range(1, len(found[0]) + 1)
            by_epoch = list(zip(*found, strict=True))
            axes.plot(epochs, [statistics.mean(each) for each in by_epoch], marker=".", label=kind)
            axes.fill_between(
                epochs, [min(each) for each in by_epoch], [max(each) for each in by_epoch], alpha=0.2
            )
        axes.set(title=data, xlabel="epoch", ylabel="test error", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--folder", type=Path, required=True, help="for the trainings")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--data", type=options.names, default=tuple(EPOCHS), help="names, with commas")
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.0)
    rows = {}
    for data in given.data:
        kinds = {"fixed": True, "plain": False}
        rows[data] = summary({k: curves(data, on, given.seeds, given.folder) for k, on in kinds.items()})
        print(data, {name: value for name, value in rows[data].items() if name != "errors"}, flush=True)
    if not given.no_write:
        results.write_results("train_stencils", settings, [], {"data": rows})
        draw(rows, results.RESULTS / "train_stencils.svg")


if __name__ == "__main__":
    main()
