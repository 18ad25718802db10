"""A training that is killed at any moment, again and again, ends with the weights of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tvm_fastconv.train.running import load_checkpoint

pytest.importorskip("lightning_fabric")

ROOT = Path(__file__).parents[3]
KILLS = 100

TRAIN = """
import os, pathlib, sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from tests.train.running.test_train import NETWORK, _data, _model
from tvm_fastconv.train.running import Settings, train

SETTINGS = Settings(epochs=90, batch_size=16, checkpoint_every=1, ema=0.9)

def go_on(out):
    def tell(text):
        print("told", flush=True)
    train(_model("lcnn-fast"), _data(), SETTINGS, network=NETWORK, out=out, resume=True, progress=tell)

# One process imports everything, and forks one that trains into the folder that each line names.
for line in sys.stdin:
    child = os.fork()
    if not child:
        go_on(pathlib.Path(line.strip()))
        os._exit(0)
    print("started", child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@pytest.mark.slow
def test_a_hundred_kills_change_nothing(tmp_path: Path) -> None:
    rng, steps = random.Random(0), 0
    code = TRAIN.format(root=str(ROOT))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as mother:
        _train(mother, tmp_path / "whole", None, rng)
        for _ in range(KILLS):
            _train(mother, tmp_path / "killed", rng.randint(1, 7), rng)
            if (tmp_path / "killed" / "last.ckpt").exists():
                training = load_checkpoint(tmp_path / "killed" / "last.ckpt").training
                now = 12 * training["epoch"] + training["batch"]
                assert now >= steps
                steps = now
        assert 0 < steps < 12 * 90, "all kills were in time"
        _train(mother, tmp_path / "killed", None, rng)
    whole, killed = (load_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "killed"))
    assert whole.state.keys() == killed.state.keys()
    assert all(torch.equal(value, killed.state[name]) for name, value in whole.state.items())
    assert [row["train_loss"] for row in whole.history] == [row["train_loss"] for row in killed.history]
    left = {path.name for path in (tmp_path / "killed").iterdir() if not path.name.startswith("events")}
    assert {"last.ckpt", "best.ckpt", "metrics.csv"} <= left


def _train(mother: subprocess.Popen[str], out: Path, kill_after: int | None, rng: random.Random) -> None:
    """Train into ``out``, to the end or until so many steps were told of."""
    assert mother.stdin is not None
    assert mother.stdout is not None
    mother.stdin.write(f"{out}\n")
    mother.stdin.flush()
    child, told = 0, 0
    for line in mother.stdout:
        if line.startswith("ended"):
            return
        if line.startswith("started"):
            child = int(line.split()[1])
        told += line.startswith("told")
        if child and told == kill_after:
            time.sleep(rng.random() * 0.01)
            os.kill(child, signal.SIGKILL)
            kill_after = None
