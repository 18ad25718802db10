"""Two processes on two cores against one on one: images a second of the same training, in turns.

``python -m benchmarks.bench_train_processes`` writes ``results/train_processes.json``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tvm_fastconv.train.running import load_checkpoint

from . import options, results

NETWORK = ("fashion-mnist", "all_cnn_c", "--option", "width=0.3333", "--option", "stem_stride=2")
TURNS = 3


def images_per_second(cores: tuple[int, ...], folder: Path) -> float:
    """Of an epoch with a process on each of ``cores``, 512 images a step in all."""
    command = [sys.executable, "-m", "tvm_fastconv.cli", "train", *NETWORK, "--out", str(folder)]
    command += ["--epochs", "1", "--batch-size", "512", "--devices", str(len(cores))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *command]
    subprocess.run(pinned, check=True, env=environment, capture_output=True)
    return load_checkpoint(folder / "last.ckpt").history[-1]["images_per_second"]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    given = parser.parse_args()
    cores = tuple(range(min(2, os.cpu_count() or 1)))
    settings = options.settings_of(given, min_time=0.0)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(TURNS):
            one = images_per_second((cores[-1],), Path(scratch, f"one-{turn}"))
            two = images_per_second(tuple(cores), Path(scratch, f"two-{turn}"))
            found.append((one, two))
            print(f"{one:.0f} images a second, and {two:.0f}: {two / one:.2f}", flush=True)
    row = {"pairs": found, "ratio": statistics.median(two / one for one, two in found)}
    if not given.no_write:
        results.write_results("train_processes", settings, [], row)


if __name__ == "__main__":
    main()
