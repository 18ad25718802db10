"""However a verb is ended, it says so in one line and leaves nothing behind."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tvm_fastconv.cli.signals import ending_tidily

WHOLE_RUN = 6.0
"""Seconds up to which a signal is sent; where the run is over sooner, it ended as usual, which is right too."""

IN_COMPILED_CODE = """
import contextlib, hashlib
from tvm_fastconv.cli.signals import ending_tidily, keeping
from tvm_fastconv.temporary import temporary_folder
kept = {kept}
with ending_tidily(), temporary_folder() as folder, keeping(kept) if kept else contextlib.nullcontext():
    print(folder, flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in which Python runs no handler
"""


def start(network: Path, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tvm_fastconv.cli", "compile", f"{network}:small", "--shape", "1x1x8x8"]
    return subprocess.Popen(
        [*command, "-o", str(folder / "m.so")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), "TORCHINDUCTOR_CACHE_DIR": str(folder.parent / "torch")},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("seed", range(5))
def test_a_signal_at_any_moment(
    number: int, code: int, word: str, seed: int, network: Path, tmp_path: Path
) -> None:
    process = start(network, tmp_path)
    assert process.stderr is not None
    first = process.stderr.readline()
    time.sleep(random.Random(code + seed).uniform(0, WHOLE_RUN))
    process.send_signal(number)
    _, err = process.communicate()
    lines = [line for line in (first + err).splitlines() if not line.endswith(" ...")]
    if process.returncode in (0, -number):  # the verb was over; Python's own end is not ours to handle
        assert (lines, os.listdir(tmp_path)) == ([], ["m.so"])
        return
    assert (process.returncode, lines) == (code, [f"error: {word}"])
    assert os.listdir(tmp_path) in ([], ["m.so"])  # the file is there if it was complete already


@pytest.mark.parametrize(("kept", "said"), [("", ""), ("a.jsonl has it", "; a.jsonl has it")])
def test_a_signal_inside_of_compiled_code(kept: str, said: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", IN_COMPILED_CODE.format(kept=repr(kept))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    assert Path(process.stdout.readline().strip()).exists()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=600)  # a hang ends as a failure
    assert (process.returncode, err) == (143, f"error: terminated{said}\n")
    assert os.listdir(tmp_path) == []


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threads = threading.active_count()
    with pytest.raises(ZeroDivisionError), ending_tidily():
        1 // (signal.getsignal(signal.SIGTERM) == before[1])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ending_tidily():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_changes() -> None:
    seen = []

    def inside() -> None:
        with ending_tidily():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
