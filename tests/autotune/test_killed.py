"""Tuning that is killed at any moment: what was measured is in the file, and the next run goes on."""

import random
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from tvm_fastconv.autotune.records import Trial, read_records

ROOT = Path(__file__).parents[2]
KILLS, BATCHES = 6, 12

TUNE = """
import importlib, pathlib, sys, time
sys.path.insert(0, {root!r})
from tests.autotune import test_tuner as t
from tests.autotune.fake import FakeRunner, task
from tvm_fastconv.autotune.records import read_records
from tvm_fastconv.autotune.tuner import Budget

NAMES = ["conv2d", "dense", "conv2d, odd", "winograd_conv2d", "bitserial_conv2d", "lookup_conv2d", "depthwise_conv2d"]

class Telling(FakeRunner):
    def run(self, candidates):
        # What was measured before this batch is on the disk by now: say how much that is.
        print(len(self.tried), flush=True)
        time.sleep(0.002)
        return super().run(candidates)

path = pathlib.Path({path!r})
known = read_records(path) if path.exists() else []
t._tune(path, t.Fixed(dict.fromkeys(map(task, NAMES), 1)), Telling(), Budget(trials=10**6), known, int(sys.argv[1]))
"""


@pytest.mark.slow
def test_no_record_is_lost_but_the_batch_in_flight(tmp_path: Path) -> None:
    path, rng, before = tmp_path / "r.jsonl", random.Random(0), 0
    code = TUNE.format(root=str(ROOT), path=str(path))
    for kill in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", code, str(kill)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = [0]
        for _ in range(rng.randint(1, BATCHES)):
            told += [int(line) for line in process.stdout.readline().splitlines()]
        time.sleep(rng.random() * 0.004)
        process.kill()
        told += [int(line) for line in process.stdout.read().splitlines() if line]
        process.wait()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a line that was cut off
            trials = [line for line in read_records(path) if isinstance(line, Trial)] if path.exists() else []
        assert len(trials) >= before + told[-1]
        assert len({(trial.task, trial.knobs) for trial in trials}) == len(trials), (
            "nothing is measured twice"
        )
        before = len(trials)
    assert before > 0
