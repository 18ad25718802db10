"""Tuning that is killed at any moment: what was measured is in the file, and the next run goes on."""

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import IO

import pytest

from tvm_fastconv.autotune.records import Trial, read_records

ROOT = Path(__file__).parents[2]
KILLS, BATCHES = 50, 12

TUNE = """
import os, pathlib, sys, time
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

def tune(path, seed):
    known = read_records(path) if path.exists() else []
    t._tune(path, t.Fixed(dict.fromkeys(map(task, NAMES), 1)), Telling(), Budget(trials=10**6), known, seed)

# One process imports everything, and forks one that tunes for every line that it reads: its number.
for line in sys.stdin:
    child = os.fork()
    if not child:
        tune(pathlib.Path({path!r}), int(line))
        os._exit(0)
    print("started", child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@pytest.mark.slow
def test_no_record_is_lost_but_the_batch_in_flight(tmp_path: Path) -> None:
    path, rng, before = tmp_path / "r.jsonl", random.Random(0), 0
    code = TUNE.format(root=str(ROOT), path=str(path))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as mother:
        assert mother.stdin is not None
        assert mother.stdout is not None
        for kill in range(KILLS):
            mother.stdin.write(f"{kill}\n")
            mother.stdin.flush()
            told = _tune_and_kill(mother.stdout, rng)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a line that was cut off
                lines = read_records(path) if path.exists() else []
            trials = [line for line in lines if isinstance(line, Trial)]
            assert len(trials) >= before + told
            assert len({(trial.task, trial.knobs) for trial in trials}) == len(trials), (
                "nothing is measured twice"
            )
            before = len(trials)
    assert before > 0


def _tune_and_kill(output: IO[str], rng: random.Random) -> int:
    """Kill what tunes after some batches; returns how many trials it said were on the disk."""
    child, told, batches, left = None, 0, 0, rng.randint(1, BATCHES)
    for line in output:
        if line.startswith("ended"):
            return told
        if line.startswith("started"):
            child = int(line.split()[1])
        else:
            told, batches = int(line), batches + 1
        if child is not None and batches == left:
            time.sleep(rng.random() * 0.004)
            os.kill(child, signal.SIGKILL)
            left = -1
    raise AssertionError("the process that forks has ended")
