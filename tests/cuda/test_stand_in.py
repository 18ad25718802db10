"""What needs a GPU, on the stand-in for one: TVM's CUDA runtime, files, graphs, and tuning."""

import os
import subprocess
import sys

import pytest

from tvm_fastconv.runtime.gpu import compute_capability

from .stand_in import ROOT, environment

FILES = ("test_on_a_gpu.py", "test_tuning_on_a_gpu.py")


@pytest.mark.slow
@pytest.mark.skipif(compute_capability() is not None, reason="there is a GPU")
@pytest.mark.parametrize("name", FILES)
def test_what_needs_a_gpu_passes_on_the_stand_in(name: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        f"tests/cuda/{name}",
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
