"""Batches measured by the script that goes to the device, without TVM's compiler and PyTorch."""

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tvm_fastconv.artifact.c_compiler import find_compiler
from tvm_fastconv.autotune import write_batch as module
from tvm_fastconv.autotune.batch_files import BATCH, RESULTS, Results, read_batch, read_results
from tvm_fastconv.autotune.candidate import Candidate, Device, Group
from tvm_fastconv.autotune.measure_batch import MEASURED
from tvm_fastconv.autotune.search import Search
from tvm_fastconv.autotune.write_batch import SCRIPT, write_batch
from tvm_fastconv.errors import TargetError
from tvm_fastconv.machine_files import target_and_machine
from tvm_fastconv.targets import spec_of

from .fake import DEVICE, groups_for, task

pytestmark = pytest.mark.native

ALONE = """
import runpy, sys
# Neither what is installed of this package, nor what a device has not.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__ + repr(finder)]
sys.modules |= dict.fromkeys(["tvm", "torch", "xgboost", "tvm_fastconv.topi", "tvm_fastconv.relay_passes"])
sys.argv = [sys.argv[1], *sys.argv[2:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _device() -> Device:
    target, machine = target_and_machine("native")
    return Device(spec_of(target), machine)


def _groups() -> list[Group]:
    return groups_for(_device())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batches") / "batch"
    jobs, failed = write_batch(_groups(), _device(), "a day in May", folder)
    assert (jobs, failed) == (7, [])
    return folder


@pytest.fixture
def batch(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(written, tmp_path / "batch"))


def _measure(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )


def _change(folder: Path, **changes: object) -> None:
    fields = json.loads((folder / BATCH).read_text())
    (folder / BATCH).write_text(json.dumps(fields | changes))


def _results(folder: Path) -> Results:
    done = _measure(folder)
    assert (done.returncode, done.stderr) == (0, "")
    return read_results(folder / RESULTS)


def test_it_needs_no_more_than_numpy_and_the_runtime(batch: Path) -> None:
    command = [sys.executable, "-I", "-c", ALONE, str(batch / SCRIPT)]
    for more in (["--from", "0"], []):
        done = subprocess.run([*command, *more], cwd="/", capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"7 measured, 0 failed: bring {batch / RESULTS} back\n"
    found = read_results(batch / RESULTS)
    assert found.conditions == "a day in May"
    assert found.processor
    assert [len(result.times) for result in found.results] == [1, 1, 1, 1, 1, 1, 2]
    assert [len(result.times[0]) for result in found.results] == [3, 3, 3, 3, 3, 3, 7]
    asked = [
        (group.candidates[0].task.key, [candidate.knobs.to_json() for candidate in group.candidates])
        for group in _groups()
    ]
    assert [((result.op, result.problem), list(result.knobs)) for result in found.results] == asked
    assert [result.contest for result in found.results] == [False] * 6 + [True]


def test_it_goes_on_where_it_was_interrupted(batch: Path) -> None:
    first = _results(batch)
    lines = (batch / MEASURED).read_bytes().splitlines(keepends=True)
    (batch / MEASURED).write_bytes(b"".join(lines[:3]) + lines[3][:20])  # the last is cut off
    again = _results(batch)
    assert again.results[:3] == first.results[:3]
    assert len(again.results) == len(first.results)


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Shells ignore SIGINT in what they run in the background, and so would everything that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whoever_ends_it_ends_what_it_started(number: signal.Signals, batch: Path) -> None:
    """The process that measures must not go on beside the one that is started again."""
    jobs = json.loads((batch / BATCH).read_text())["jobs"]
    _change(batch, jobs=jobs * 500)
    process = subprocess.Popen(
        [sys.executable, SCRIPT], cwd=batch, start_new_session=True, stderr=subprocess.PIPE
    )
    while not (batch / MEASURED).exists():
        time.sleep(0.01)
    (child,) = psutil.Process(process.pid).children()
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    child.wait(timeout=60)
    if number == signal.SIGINT:
        assert told == b"interrupted; started again, it goes on from here\n"


def test_one_process_measures_at_a_time(batch: Path) -> None:
    with (batch / BATCH).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = _measure(batch)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "another process measures this batch\n")


def test_bad_candidates_cost_themselves_alone(batch: Path) -> None:
    jobs = read_batch(batch / BATCH).jobs
    wrong, crashing = jobs[0], jobs[2]
    answer = np.load(batch / wrong.expected)
    np.save(batch / wrong.expected, answer + 1)
    (batch / "crash.c").write_text(
        "#include <stdlib.h>\nint __tvm_ffi_main(void* s, void* a, int n, void* r) { abort(); }\n"
    )
    compiler = find_compiler("x86_64-linux-gnu" if "x86_64" in _device().target else "aarch64-linux-gnu")
    compiler.compile(batch, "crash.c", "crash.o")
    compiler.link(batch, ["crash.o"], crashing.candidates[0].library, ())
    errors = [result.error for result in _results(batch).results]
    assert "wrong answer" in str(errors[0])
    assert "wrong answer" in str(errors[1])  # of the same task
    assert errors[2] == "the process that ran it was killed by SIGABRT"
    assert errors[3:] == [None] * 4


@pytest.mark.parametrize("what", ["library", "array", "expected"])
@pytest.mark.parametrize("damaged", [False, True])
def test_files_that_are_missing_or_damaged(what: str, damaged: bool, batch: Path) -> None:
    """No candidate is blamed for them."""
    job = read_batch(batch / BATCH).jobs[3]
    made = job.candidates[0]
    name = {"library": made.library, "array": made.arrays[0], "expected": job.expected}[what]
    (batch / name).write_bytes(b"\x93NUMPY\x01") if damaged else (batch / name).unlink()
    done = _measure(batch)
    told = f"{name} is missing or damaged: copy the whole folder of the batch again\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)
    assert not (batch / MEASURED).exists()


def test_what_is_killed_from_outside_is_tried_again(batch: Path) -> None:
    jobs = json.loads((batch / BATCH).read_text())["jobs"]
    _change(batch, jobs=jobs * 20)
    process = subprocess.Popen([sys.executable, SCRIPT], cwd=batch, stdout=subprocess.PIPE)
    while not (batch / MEASURED).exists():
        time.sleep(0.01)
    (child,) = psutil.Process(process.pid).children()
    child.kill()
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert [result.error for result in read_results(batch / RESULTS).results] == [None] * 140


def test_results_of_other_jobs_are_told_of(batch: Path) -> None:
    _results(batch)
    lines = (batch / MEASURED).read_text().splitlines(keepends=True)
    (batch / MEASURED).write_text("".join(lines[1:2] + lines[:1]))
    done = _measure(batch)
    assert (done.returncode, done.stdout) == (1, "")
    assert "measured.jsonl is damaged" in done.stderr


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (BATCH, '{"conditions":', "cannot measure"),
        (MEASURED, "garbage\n" * 7, "measured.jsonl is damaged; without it, all is measured anew"),
    ],
)
def test_damaged_files_are_one_message(file: str, text: str, message: str, batch: Path) -> None:
    (batch / file).write_text(text)
    done = _measure(batch)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert message in done.stderr


def test_what_is_missing_is_one_message(batch: Path) -> None:
    code = "import runpy, sys; sys.modules['numpy'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, batch / SCRIPT], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("measuring takes NumPy, tvm_ffi and TVM's runtime library: ")


def test_another_processor_is_told(batch: Path) -> None:
    _change(batch, features=["avx9"])
    done = _measure(batch)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "this is not the processor that the batch is for: it lacks avx9\n"


def test_a_batch_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_write_script", fail)
    with pytest.raises(KeyboardInterrupt):
        write_batch(_groups()[:1], _device(), "", tmp_path / "new" / "batch")
    assert not (tmp_path / "new" / "batch").exists()


def test_candidates_that_cannot_be_built_are_told_of(tmp_path: Path) -> None:
    (group, *_) = _groups()
    # A knob set that this operator does not have.
    alien = Candidate(group.candidates[0].task, Search(task("depthwise_conv2d"), _device()).default)
    jobs, failed = write_batch([group, Group((alien,), 3)], _device(), "", tmp_path / "batch")
    assert jobs == 1
    assert [candidate for candidate, _ in failed] == [alien]
    assert failed[0][1].error


def test_no_compiler_is_one_message(tmp_path: Path) -> None:
    device = Device("sparc-linux-gnu", DEVICE.machine)
    with pytest.raises((TargetError, ValueError)):
        write_batch(_groups()[:1], device, "", tmp_path / "batch")
    assert not (tmp_path / "batch").exists()


def test_what_the_device_lacks_ends_the_batch(batch: Path) -> None:
    """And is no candidate's failure: here, memory."""
    (job, *_) = json.loads((batch / BATCH).read_text())["jobs"]
    _change(batch, jobs=[job | {"footprint": 1 << 60}])
    done = _measure(batch)
    assert done.returncode == 1
    assert done.stderr.startswith("cannot measure: ")
    assert not (batch / MEASURED).exists()
