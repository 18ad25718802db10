"""Digits by every method: a network of LeNet's size, several seeds of each, trained and compiled.

``python -m benchmarks.bench_train_digits --threads 2`` takes some minutes and writes ``results/train_digits.json``:
that many methods at a time, each on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

import tvm_fastconv as fc
from tvm_fastconv.train.data import load_digits
from tvm_fastconv.train.data.augment import Augmentation
from tvm_fastconv.train.models import PRESETS
from tvm_fastconv.train.running import Job, Settings, run_job

from . import options, results

SEEDS = 5
SETTINGS = Settings(epochs=30, batch_size=64, learning_rate=4e-3, warmup=1, augmentation=Augmentation(crop=1))


def accuracies(preset: str, seeds: int, settings: Settings = SETTINGS) -> dict[str, Any]:
    """Shares of the test images that networks of each seed get right, and how many answers of files are others."""
    found, others, start = [], 0, time.monotonic()
    images = load_digits().test_images
    for seed in range(seeds):
        options_ = {"activation": "none"} if preset == "binary" else {}
        job = Job(
            data="digits",
            network="digits_net",
            options=options_,
            methods=preset,
            settings=Settings(**{**vars(settings), "seed": seed}),
        )
        trained = run_job(job)
        found.append(trained.history[-1]["top1"])
        with torch.inference_mode():
            wanted = trained.model(torch.from_numpy(images)).argmax(1).numpy()
        file = fc.compile(trained.model, (torch.from_numpy(images[:1]),), threads=1)
        got = np.array([int(file(image[None]).argmax()) for image in images])
        others += int((got != wanted).sum())
    return {
        "top1": found,
        "mean": statistics.mean(found),
        "spread": max(found) - min(found),
        "other_answers": others,
        "seconds": time.monotonic() - start,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.0)
    rows, start = {}, time.monotonic()
    workers = ProcessPoolExecutor(given.threads, get_context("spawn"), torch.set_num_threads, (1,))
    with workers:
        asked = {preset: workers.submit(accuracies, preset, given.seeds) for preset in PRESETS}
        for preset, answer in asked.items():
            rows[preset] = row = answer.result()
            right, spread = 100 * row["mean"], 100 * row["spread"]
            print(
                f"{preset}: {right:.2f} % right, seeds within {spread:.2f}; "
                f"{row['other_answers']} other answers compiled",
                flush=True,
            )
    elapsed = time.monotonic() - start
    print(f"{elapsed:.0f} s")
    if not given.no_write:
        results.write_results("train_digits", settings, [], {"seconds": elapsed, "methods": rows})


if __name__ == "__main__":
    main()
