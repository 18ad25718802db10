"""A device that has Python and TVM's runtime: our loader, scripts and servers on AArch64, executed by an emulator."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from tvm import rpc
from tvm.rpc.tracker import Tracker

import tvm_fastconv as fc
from tvm_fastconv.autotune.batch_files import RESULTS
from tvm_fastconv.autotune.rpc_address import Address, tracker_key
from tvm_fastconv.autotune.rpc_runner import RPCRunner
from tvm_fastconv.autotune.write_batch import SCRIPT
from tvm_fastconv.demo import NETWORKS
from tvm_fastconv.train.models import make_model

from ..cuda.networks import settled

PYTHON = Path(__file__).parents[2] / ".cache" / "arm-python" / "python"

pytestmark = [
    pytest.mark.arm,
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="needs a Python for AArch64: make arm-python"),
]

ZIG = f"{sys.executable} -m ziglang cc -target aarch64-linux-gnu"
"""The device's C compiler, which says what its clock is; in the emulator, programs of this machine run as well."""

TARGET = "cortex-a72"
X = torch.randn(1, 3, 12, 12)


def _python(
    *arguments: object, cpu: str = TARGET, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "ARM_CPU": cpu, "TVM_NUM_THREADS": "1"}
    return subprocess.run(
        [PYTHON, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, check=False,
        timeout=600,
    )  # fmt: skip


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 1)).eval()


CALL = """
import sys, numpy as np
from tvm_fastconv.runtime.compiled_model import load
for name in sys.argv[1:]:
    model = load(f"{name}.so")
    inputs = [array.copy() for array in model.reference()[0]]
    assert np.array_equal(model.bind(*inputs)(), model(*inputs))
    print(name, model.check())
"""


def test_the_loader(tmp_path: Path) -> None:
    """Plainly and bound, the demo's networks compute what PyTorch does."""
    torch.manual_seed(4)  # no value lies at a threshold of bits
    images = torch.randn(8, 1, 8, 8)
    for name, how in NETWORKS.items():
        model = settled(make_model("digits_net", classes=10, channels=1, size=8, **how), images)
        fc.compile(model, images[:1], target=TARGET).save(tmp_path / f"{name}.so")
    done = _python("-c", CALL, *NETWORKS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    errors = dict(line.split() for line in done.stdout.splitlines())
    assert set(errors) == set(NETWORKS)
    assert all(float(error) < 1e-5 for error in errors.values())


def test_a_kits_python(tmp_path: Path) -> None:
    """With NumPy alone: it finds nothing of this project, nor TVM."""
    fc.deploy(_model(), X, folder=tmp_path / "kit", name="net", target="raspberry-pi/4b-aarch64")
    code = """
import runpy, sys
sys.modules.update(tvm=None, tvm_ffi=None, torch=None, tvm_fastconv=None)
sys.argv[0] = "run.py"
sys.path[0] = "."
runpy.run_path("run.py", run_name="__main__")
"""
    for verb in ("check", "bench"):
        done = _python("-c", code, verb, cwd=tmp_path / "kit")
        assert done.returncode == 0, done.stderr
        assert "right" in done.stdout or "us a call" in done.stdout


def test_code_for_dot_products_needs_them(tmp_path: Path) -> None:
    fc.compile(_model(), X, target="cortex-a76").save(tmp_path / "m.so")
    command = ("-m", "tvm_fastconv.cli", "run", tmp_path / "m.so", "--check")
    refused = _python(*command, cpu="cortex-a72")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "was compiled for a CPU with dotprod, fullfp16, lse, rdm, which this CPU lacks" in refused.stderr
    done = _python(*command, cpu="cortex-a76")
    assert done.returncode == 0, done.stderr


def test_a_batch_goes_there_and_comes_back(tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    for turn in range(2):
        folder = tmp_path / str(turn)
        written = fc.export_batch(_model(), X, folder=folder, records=records, target=TARGET, trials=4)
        assert written.failed == 0
        done = _python(folder / SCRIPT, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        taken = fc.import_batch(_model(), X, results=folder / RESULTS, records=records, target=TARGET)
        assert (taken.failures, taken.alien) == ({}, 0)
        assert bool(taken.verdicts) == bool(turn)
    assert "record" in {
        layer.source for layer in fc.compile(_model(), X, target=TARGET, records=records).layers
    }


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    made = Tracker("127.0.0.1", 9590, 9690, silent=True)
    yield made
    made.terminate()


@contextlib.contextmanager
def _serving(tracker: Tracker, log: Path) -> Iterator[None]:
    with log.open("w") as file:
        process = subprocess.Popen(
            [PYTHON, "-m", "tvm_fastconv.cli", "serve", "--tracker", f"127.0.0.1:{tracker.port}", "--key", "arm"],
            env={"PATH": os.environ["PATH"], "HOME": str(log.parent), "CC": ZIG},
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
        try:
            queue = tracker_key("arm", "")
            for _ in range(3000):
                known = rpc.connect_tracker("127.0.0.1", tracker.port).summary()["queue_info"]
                if known.get(queue, {"free": 0})["free"]:
                    break
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            else:
                raise TimeoutError(log.read_text())
            yield
        finally:
            process.terminate()
            process.wait(60)


def test_it_is_tuned_through_a_tracker(tracker: Tracker, tmp_path: Path) -> None:
    with _serving(tracker, tmp_path / "log"):
        with contextlib.closing(RPCRunner(Address("127.0.0.1", tracker.port, "arm", ""))) as runner:
            assert runner.device.target.startswith("aarch64-linux-gnu ")
        (tmp_path / "net.py").write_text(
            "from torch import nn\ndef build():\n    return nn.Conv2d(3, 16, 3, padding=1).eval()\n"
        )
        command = [
            sys.executable, "-m", "tvm_fastconv.cli", "tune", str(tmp_path / "net.py:build"), "--shape", "1x3x12x12",
            "--records", str(tmp_path / "r.jsonl"), "--rpc", f"127.0.0.1:{tracker.port}", "--key", "arm",
            "--trials", "6",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr + (tmp_path / "log").read_text()
    assert "trials" in done.stdout
