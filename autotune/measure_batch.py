"""Measure a batch on the device that it is for: what ``measure.pyz`` runs there.

It needs Python, NumPy, ``tvm_ffi`` and TVM's runtime library; neither TVM's compiler nor PyTorch. Candidates run in a
process of their own, which is started again after one that crashes or hangs. What was measured is on the disk at once:
started again, it goes on from there.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import numpy as np

from tvm_fastconv.autotune.batch_files import (
    BATCH,
    MAX_BYTES,
    RESULTS,
    Batch,
    Job,
    Result,
    Results,
    read_batch,
    write,
)
from tvm_fastconv.autotune.gpu_calls import require_gpu
from tvm_fastconv.autotune.measure_job import measure_job
from tvm_fastconv.autotune.worker import end_with_parent
from tvm_fastconv.measure.gpu_timing import gpu_works
from tvm_fastconv.measure.roofline import measure_clock
from tvm_fastconv.regular_files import open_regular
from tvm_fastconv.runtime.cpu import missing_features, processor_name
from tvm_fastconv.runtime.gpu import device_name, gpu_clock
from tvm_fastconv.runtime.tvm_runtime import tvm_ffi
from tvm_fastconv.typed_json import from_json, one_line, to_json

CLOCK = "clock.so"
MEASURED = "measured.jsonl"
"""One line for each job that is done."""

JOB_SECONDS = 180.0
"""After which a job counts as hanging."""

STOPPED = 75
"""Exit code of what measures, where no candidate is to blame; it has said why."""

BROKEN = 76
"""Exit code of what measures, where it has noted a candidate after which its GPU refuses all work: another goes on."""

FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A process that these end is not ended by its candidate."""


def main() -> None:
    """``python3 measure.pyz``: measure what lies beside it."""
    folder = Path(sys.argv[0]).resolve().parent
    try:
        batch = read_batch(folder / BATCH)
        if sys.argv[1:2] == ["--from"]:
            end_with_parent()
            _measure_from(int(sys.argv[2]), batch, folder)
        elif len(sys.argv) > 1:
            sys.exit("usage: python3 measure.pyz, beside the files of its batch")
        else:
            _measure_batch(batch, folder)
    except KeyboardInterrupt:
        sys.exit("interrupted; started again, it goes on from here")
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"cannot measure {folder}: {error}")


def _measure_batch(batch: Batch, folder: Path) -> None:
    if missing := missing_features(batch.features):
        sys.exit(f"this is not the processor that the batch is for: it lacks {', '.join(missing)}")
    tvm_ffi()  # which says here what is missing, and not once for each candidate
    if batch.gpu_arch is not None:
        require_gpu(batch.gpu_arch)
    with (folder / BATCH).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another process measures this batch")
        _check_files(batch, folder)
        if batch.gpu_arch is None:
            name, clock = processor_name(), measure_clock(ctypes.CDLL(str(folder / CLOCK)))
        else:
            name, clock = device_name() or "a GPU", gpu_clock()
        done = _measure_all(batch, folder)
    write(
        Results(conditions=batch.conditions, processor=name, clock=clock, results=tuple(done)),
        folder / RESULTS,
    )
    failed = sum(result.error is not None for result in done)
    print(f"{len(done)} measured, {failed} failed: bring {folder / RESULTS} back")
    sys.exit(bool(done) and failed == len(done))


def _check_files(batch: Batch, folder: Path) -> None:
    """Find out what did not come along before a candidate is blamed for it."""
    for name in dict.fromkeys(
        name for job in batch.jobs for made in job.candidates for name in (job.expected, *made.arrays)
    ):
        try:
            open_regular(folder / name).close()
            np.load(folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            _refuse(name)
    clock = [CLOCK] if batch.gpu_arch is None else []
    for name in (*clock, *(made.library for job in batch.jobs for made in job.candidates)):
        try:
            with open_regular(folder / name) as file:
                if file.read(4) != b"\x7fELF":
                    _refuse(name)
        except OSError:
            _refuse(name)


def _refuse(name: str) -> NoReturn:
    sys.exit(f"{name} is missing or damaged: copy the whole folder of the batch again")


def _measure_all(batch: Batch, folder: Path) -> list[Result]:
    """Have every job measured that is not yet."""
    path, told, ended_at = folder / MEASURED, time.monotonic(), -1
    _read_measured(path, batch)
    while (seen := _count(path)) < len(batch.jobs):
        command = [sys.executable, sys.argv[0], "--from", str(seen)]
        threads = str(batch.threads)
        environment = {**os.environ, "TVM_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        with subprocess.Popen(command, env=environment) as child:
            since = time.monotonic()
            try:
                while child.poll() is None and time.monotonic() - since < JOB_SECONDS:
                    time.sleep(0.05)
                    if (count := _count(path)) > seen:
                        seen, since = count, time.monotonic()
                    if time.monotonic() - told > 10:
                        told = time.monotonic()
                        print(f"{seen} of {len(batch.jobs)} measured", flush=True)
                hangs = child.poll() is None
            finally:
                child.kill()
        if child.returncode == STOPPED:
            sys.exit(1)
        if child.returncode == BROKEN:
            continue
        if (place := _count(path)) < len(batch.jobs):
            if not hangs and -child.returncode in FROM_OUTSIDE and place != ended_at:
                ended_at = place  # for want of memory it ends so each time
                continue
            error = f"it took longer than {JOB_SECONDS:.0f} s" if hangs else _ending(child.returncode)
            _append(path, _result(batch.jobs[place], (), error))
    return _read_measured(path, batch)


def _read_measured(path: Path, batch: Batch) -> list[Result]:
    """What was measured by now; a line that was cut off is none."""
    if not path.exists():
        return []
    try:
        with open_regular(path) as file:
            lines = file.read(MAX_BYTES).decode().split("\n")[:-1]
        done = [from_json(Result, json.loads(line), "result") for line in lines]
        for result, job in zip(done, batch.jobs, strict=False):
            if result != _result(job, result.times, result.error):
                raise ValueError
        if len(done) > len(batch.jobs):
            raise ValueError
    except (OSError, ValueError, RecursionError):
        raise ValueError(f"{path.name} is damaged; without it, all is measured anew") from None
    return done


def _ending(status: int) -> str:
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit code {status}"
    return f"the process that ran it {how}"


def _count(path: Path) -> int:
    """How many jobs are done; a line that was cut off is none."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _append(path: Path, result: Result) -> None:
    path.touch()
    with path.open("r+b") as file:
        file.seek(file.read().rfind(b"\n") + 1)  # over a line that was cut off
        file.truncate()
        file.write(one_line(to_json(result)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _measure_from(place: int, batch: Batch, folder: Path) -> None:
    for job in batch.jobs[place:]:
        try:
            result = _result(job, measure_job(job, batch, folder), None)
        except (MemoryError, OSError) as error:  # of the device, and no candidate's
            print(f"cannot measure: {str(error) or type(error).__name__}", file=sys.stderr)
            sys.exit(STOPPED)
        except Exception as error:  # of whatever other kind: it is this job's result
            line = (str(error).strip() or type(error).__name__).splitlines()[-1]
            _append(folder / MEASURED, _result(job, (), line[:300]))
            if batch.gpu_arch is not None and not gpu_works():
                sys.exit(BROKEN)
        else:
            _append(folder / MEASURED, result)


def _result(job: Job, times: tuple[tuple[float, ...], ...], error: str | None) -> Result:
    knobs = tuple(candidate.knobs for candidate in job.candidates)
    contest = job.footprint is not None
    return Result(op=job.op, problem=job.problem, knobs=knobs, contest=contest, times=times, error=error)
