"""The notebook's grid on Fashion-MNIST: three networks of convolutions in four forms, accuracy beside time and bytes.

``python -m benchmarks.bench_train_grid --folder DIR`` trains each for as many epochs, a sixth as wide as the notebook
has them and with a stride of 2 in their first layer, and writes ``results/train_grid.json``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tvm_fastconv.train.data import load_data
from tvm_fastconv.train.data.augment import Augmentation
from tvm_fastconv.train.models.all_cnn import FORMS
from tvm_fastconv.train.recipes import separable_grid
from tvm_fastconv.train.recipes.separable_grid import NETWORKS
from tvm_fastconv.train.running import Job, Settings

from . import options, results
from .trainings import measure, trained

DATA, WIDTH, EPOCHS = "fashion-mnist", 1 / 6, 3
SETTINGS = Settings(
    epochs=EPOCHS, batch_size=128, learning_rate=6e-3, warmup=0.5, augmentation=Augmentation(flip=True)
)
"""Not the notebook's: at its constant rate 50 epochs of batches of 32 are what it takes."""


def job_of(plan: str, form: str) -> Job:
    """One cell."""
    job = separable_grid(plan, form, DATA, width=WIDTH)
    return replace(job, settings=SETTINGS, options=job.options | {"stem_stride": 2})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--folder", type=Path, required=True, help="for the trainings")
    parser.add_argument("--only-train", action="store_true", help="and measure nothing")
    parser.add_argument("--plans", type=options.names, default=tuple(NETWORKS), help="names, with commas")
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.0)
    data, rows = load_data(DATA), {}
    for plan in given.plans:
        for form in FORMS:
            folder = given.folder / f"{plan}-{form}"
            trained(job_of(plan, form), folder)
            if not given.only_train:
                name = f"{plan} {form}"
                rows[name] = measure(folder, given.folder / f"{plan}-std", data, settings.threads)
                print(name, rows[name], flush=True)
    if rows and not given.no_write:
        results.write_results("train_grid", settings, [], {"cells": rows})


if __name__ == "__main__":
    main()
