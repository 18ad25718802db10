"""Several processes: they come to what one comes to, also when workers are killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tvm_fastconv.train.running import load_checkpoint

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")

# No poolings: among sums of bits the largest is often there twice, and rounding says which gets the gradient.
NETWORK = ["all_cnn_c", "--option", "width=0.08", "--batch-size", "64"]
TRAIN = ["-m", "tvm_fastconv.cli", "train", "digits", *NETWORK]


def _run(launcher: list[str], out: Path, *arguments: str) -> dict[str, torch.Tensor]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*launcher, *TRAIN, "--out", str(out), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_checkpoint(out / "last.ckpt").state


def _same(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        # 1e-5: sums over the batch in another order, 21 steps of them
        torch.testing.assert_close(got[name], value, rtol=0, atol=1e-5 * max(1.0, float(value.abs().max())))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "precision"), [("dense", "32-true"), ("lcnn-fast", "32-true"), ("binary", "64-true")]
)
def test_two_processes_come_to_the_weights_of_one(tmp_path: Path, method: str, precision: str) -> None:
    # Momentum and no Adam: where a gradient is nearly 0, Adam makes a whole step of its rounding. Bits in float64: in
    # float32 the rounding of a sum turns a sign somewhere in the first steps, and all that follows is another.
    options = ("--epochs", "1", "--optimizer", "sgd", "--learning-rate", "0.02", "--crop", "1")
    options += ("--method", method, "--precision", precision)
    one = _run([sys.executable], tmp_path / "one", *options)
    _same(_run([sys.executable], tmp_path / "two", "--devices", "2", *options), one)


@pytest.mark.slow
def test_torchrun_finds_its_processes(tmp_path: Path) -> None:
    options = ("--epochs", "1", "--optimizer", "sgd", "--learning-rate", "0.02", "--devices", "2")
    want = _run([sys.executable], tmp_path / "own", *options)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    _same(_run(torchrun, tmp_path / "torchrun", *options), want)
