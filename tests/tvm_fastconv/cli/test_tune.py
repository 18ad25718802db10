"""``fastconv tune`` for a device that no network reaches."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_fastconv.autotune.batch_files import RESULTS
from tvm_fastconv.autotune.write_batch import SCRIPT

NET = """
from torch import nn
def build():
    return nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU()).eval()
"""


@pytest.mark.slow
def test_a_batch_as_a_program(tmp_path: Path, fastconv: Callable) -> None:
    (tmp_path / "net.py").write_text(NET)
    command = ["tune", tmp_path / "net.py:build", "--shape", "1x8x12x12", "--records", tmp_path / "r.jsonl"]
    done = fastconv(*command, "--export-batch", tmp_path / "a", "--trials", "2", "--program", "--json")
    assert json.loads(done.out)["on the device"] == "./measure"
    subprocess.run([tmp_path / "a" / "measure"], check=True, capture_output=True)
    done = fastconv(*command, "--import-batch", tmp_path / "a" / RESULTS, "--json")
    assert json.loads(done.out)["trials"] == 2
    done = fastconv(*command, "--program")
    assert (done.code, "--program says how --export-batch measures" in done.err) == (2, True)


@pytest.mark.slow
@pytest.mark.native
def test_from_one_batch_to_the_next(tmp_path: Path, fastconv: Callable) -> None:
    (tmp_path / "net.py").write_text(NET)
    command = ["tune", tmp_path / "net.py:build", "--shape", "1x8x12x12", "--records", tmp_path / "r.jsonl"]
    done = fastconv(*command, "--export-batch", tmp_path / "a", "--trials", "3")
    assert (done.code, (tmp_path / "a" / SCRIPT).exists()) == (0, True)
    assert "3 trials and contests" in done.out
    subprocess.run([sys.executable, SCRIPT], cwd=tmp_path / "a", check=True, capture_output=True)
    done = fastconv(
        *command,
        "--import-batch",
        tmp_path / "a" / RESULTS,
        "--export-batch",
        tmp_path / "b",
        "--trials",
        2,
        "--json",
    )
    assert done.code == 0
    assert json.loads(done.out)["trials"] == 3
    assert (tmp_path / "b" / SCRIPT).exists()
    done = fastconv(*command, "--import-batch", tmp_path / "a" / RESULTS, "--json")
    facts = json.loads(done.out)
    assert (facts["trials"], facts["known already"], facts["faster than default"]) == (0, 3, "nothing new")
    done = fastconv(*command, "--export-batch", tmp_path / "c", "--seconds", "5")
    assert (done.code, (tmp_path / "c").exists()) == (2, False)
    assert "measure nothing here" in done.err
