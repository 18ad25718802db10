"""Measure one job of a batch, on the device that it is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tvm_fastconv.autotune.batch_files import Batch, Job
from tvm_fastconv.autotune.check_answer import check_answer, unset
from tvm_fastconv.autotune.gpu_calls import checked_call, require_gpu, times
from tvm_fastconv.measure.cold_caches import Call, time_in_turns
from tvm_fastconv.measure.timing import interleave
from tvm_fastconv.runtime.threads import use_threads
from tvm_fastconv.runtime.tvm_runtime import open_library, tvm_ffi

TURN_SECONDS = 0.01

ALIGNMENT = 64
"""Bytes, which generated code relies on."""


def measure_job(job: Job, batch: Batch, folder: Path) -> tuple[tuple[float, ...], ...]:
    """Seconds of each candidate of a job in ``folder``, by turns, once their answers have been checked.

    Raises
    ------
    MemoryError, OSError
        The device is to blame, or its files.
    Exception
        A candidate is.
    """
    if batch.gpu_arch is not None:
        return _on_gpu(job, batch.gpu_arch, folder)
    use_threads(batch.threads, tvm_ffi())
    expected = np.load(folder / job.expected, allow_pickle=False)
    calls = [
        _call(folder / c.library, [folder / name for name in c.arrays], expected) for c in job.candidates
    ]
    if job.footprint is not None:
        times = time_in_turns(calls, job.turns, job.footprint)
        return tuple(map(tuple, times))
    timings = interleave({str(i): run for i, (run, _) in enumerate(calls)}, job.turns, TURN_SECONDS)
    return tuple(timing.samples for timing in timings.values())


def _on_gpu(job: Job, arch: int, folder: Path) -> tuple[tuple[float, ...], ...]:
    require_gpu(arch)
    expected = np.load(folder / job.expected, allow_pickle=False)
    calls = [
        checked_call(
            open_library(str(folder / made.library)).function("main"),
            [np.load(folder / name, allow_pickle=False) for name in made.arrays],
            expected,
            job.op,
        )
        for made in job.candidates
    ]
    return tuple(map(tuple, times(calls, job.turns, TURN_SECONDS, job.footprint)))


def _call(library: Path, arrays: list[Path], expected: np.ndarray) -> Call:
    values = [_aligned(np.load(path, allow_pickle=False)) for path in arrays]
    out = _aligned(unset(expected.shape, str(expected.dtype)))
    tensors = [tvm_ffi().from_dlpack(array) for array in (*values, out)]
    run = open_library(str(library)).function("main")
    run(*tensors)
    check_answer(out, expected)
    return lambda: run(*tensors), values[0]


def _aligned(array: np.ndarray) -> np.ndarray:
    """A copy that starts at a multiple of `ALIGNMENT`."""
    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
