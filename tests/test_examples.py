"""What the examples' README says to run, run in a copy of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn import datasets

ROOT = Path(__file__).parents[1]
FASTCONV = f"FASTCONV={sys.executable} -m tvm_fastconv.cli"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(ROOT / "examples", tmp_path_factory.mktemp("copy") / "examples"))


def _make(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = ["make", "-C", str(folder), FASTCONV, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_c_program_with_two_networks(examples: Path) -> None:
    _make(examples / "c_program")
    script = re.search(r"```\n(.*?)```", (examples / "README.md").read_text(), re.DOTALL)
    assert script is not None
    line = script[1].partition("\n")[2]
    said = subprocess.run(["sh", "-c", line], cwd=examples, capture_output=True, text=True, check=True)
    assert said.stdout == "0 0\n"
    data = datasets.load_digits()
    text = "\n".join(" ".join(map(str, image.ravel())) for image in data.images)
    done = subprocess.run(
        [str(examples / "c_program" / "classify")], input=text, capture_output=True, text=True, check=True
    )
    found = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    for at in range(2):
        right = sum(pair[at] == label for pair, label in zip(found, data.target, strict=True))
        assert right >= 0.98 * len(data.target)


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_the_kit_of_a_server(examples: Path) -> None:
    said = _make(examples / "x86_server", "TARGET=native")
    assert said.count("right") == 2
    assert "us a call" in said


@pytest.mark.arm
def test_an_arm_board(examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board, python = examples / "arm_board", f"PYTHON={sys.executable}"
    assert _make(board, python, "check").count("right") == 2
    log = tmp_path / "log"
    for name in ("ssh", "scp", "adb"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _make(board, python, "pi", "HOST=me@pi")
    _make(board, python, "android")
    assert log.read_text().splitlines() == [
        "ssh me@pi mkdir -p network",
        "scp -r network reference me@pi:network/",
        "ssh me@pi cd network && ./network check && ./network bench",
        "adb shell mkdir -p /data/local/tmp/network",
        "adb push network reference /data/local/tmp/network/",
        "adb shell cd /data/local/tmp/network && chmod +x network && ./network check && ./network bench",
    ]
