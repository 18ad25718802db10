"""Several processes: they come to what one comes to, also when workers are killed."""

import os
import socket
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


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def _run(launcher: list[str], out: Path, *arguments: str) -> dict[str, torch.Tensor]:
    command = [*launcher, *TRAIN, "--out", str(out), *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
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


def _srun(out: Path, tasks: int, *arguments: str) -> list[tuple[int, str]]:
    """Start tasks as ``srun`` does on one machine, with the variables it sets; their exit codes and errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {
        "SLURM_JOB_ID": "12345", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": str(tasks), "SLURM_NNODES": "1",
        "SLURM_NTASKS_PER_NODE": str(tasks), "SLURM_NODELIST": "127.0.0.1", "SLURM_NODEID": "0",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    started = []
    for task in range(tasks):
        ranks = {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)}
        command = [sys.executable, *TRAIN, "--out", str(out), *arguments]
        started.append(
            subprocess.Popen(
                command,
                env=ENVIRONMENT | job | ranks,
                text=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        )
    errors = [process.communicate(timeout=300)[1] for process in started]
    return [(process.returncode, error) for process, error in zip(started, errors, strict=True)]


@pytest.mark.slow
def test_slurm_starts_the_processes(tmp_path: Path) -> None:
    options = ("--epochs", "1", "--optimizer", "sgd", "--learning-rate", "0.02", "--devices", "2")
    want = _run([sys.executable], tmp_path / "own", *options)
    for code, errors in _srun(tmp_path / "slurm", 2, *options):
        assert code == 0, errors[-3000:]
    _same(load_checkpoint(tmp_path / "slurm" / "last.ckpt").state, want)


def test_a_job_of_other_tasks_than_processes_is_said(tmp_path: Path) -> None:
    ((code, errors),) = _srun(tmp_path / "slurm", 1, "--devices", "2")
    assert code == 2
    assert "devices=2" in errors
    assert "Traceback" not in errors
