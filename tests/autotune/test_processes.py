"""Worker processes: what crashes or hangs costs its call alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tvm_fastconv.autotune.processes import Worker, WorkerError


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker(threads=1, environment={"FASTCONV_TEST": "here"})
    yield made
    made.close()


def test_calls_are_answered_by_one_process(worker: Worker) -> None:
    first = worker.call(os.getpid, seconds=120)
    assert first == worker.call(os.getpid, seconds=120)
    assert first != os.getpid()
    assert worker.call(divmod, 7, 3, seconds=60) == (2, 1)


def test_its_environment_says_how_many_threads(worker: Worker) -> None:
    for name, value in {"TVM_NUM_THREADS": "1", "FASTCONV_TEST": "here"}.items():
        assert worker.call(os.getenv, name, seconds=60) == value


def test_what_a_call_raises_is_one_line(worker: Worker) -> None:
    with pytest.raises(WorkerError, match=r"^invalid literal for int\(\) with base 10: 'x'$"):
        worker.call(int, "x", seconds=60)
    assert worker.call(int, "7", seconds=60) == 7


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (os.abort, (), "the process that ran it was killed by SIGABRT"),
        (os._exit, (3,), "the process that ran it ended with exit code 3"),
    ],
)
def test_a_crash_costs_one_call(worker: Worker, function: object, arguments: tuple, message: str) -> None:
    before = worker.call(os.getpid, seconds=60)
    with pytest.raises(WorkerError, match=message):
        worker.call(function, *arguments, seconds=60)
    assert worker.call(os.getpid, seconds=120) != before


def test_what_hangs_is_killed_with_what_it_started(worker: Worker, tmp_path: Path) -> None:
    """The shell starts a grandchild, whose number is written down, and waits for it."""
    note = tmp_path / "pid"
    worker.send(os.system, f"sleep 1000 & echo $! > {note}.new; mv {note}.new {note}; wait")
    while not note.exists():
        time.sleep(0.01)
    with pytest.raises(WorkerError, match="longer than 1 s"):
        worker.receive(1)
    grandchild = int(note.read_text())
    for _ in range(100):
        if (
            not Path(f"/proc/{grandchild}").exists()
            or "Z" in Path(f"/proc/{grandchild}/stat").read_text().split()[2]
        ):
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"process {grandchild} still runs")
    assert worker.call(divmod, 7, 3, seconds=120) == (2, 1)


PARENT = """
import os, sys, time
from tvm_fastconv.autotune.processes import Worker
worker = Worker()
print(worker.call(os.getpid, seconds=120), flush=True)
worker.send(time.sleep, 1000)
time.sleep(1000)
"""


def test_a_worker_does_not_outlive_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    number = int(parent.stdout.readline())
    os.kill(number, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(300):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{number}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail(f"worker {number} still runs")
