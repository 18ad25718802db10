"""Build a candidate, compare its answer with the reference, and time it: what runs in a worker process."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tvm
import tvm_ffi

from tvm_fastconv.gpu_targets import arches_of
from tvm_fastconv.measure.cold_caches import Call, time_in_turns
from tvm_fastconv.measure.timing import interleave
from tvm_fastconv.runtime.threads import use_threads
from tvm_fastconv.runtime.tvm_runtime import Library
from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.build_operator import build, compiled

from .candidate import Candidate, Device
from .check_answer import check_answer, expected_answer, unset
from .gpu_calls import GpuCall, checked_call, raise_if_broken, require_gpu, times
from .link_candidate import link_candidate

_built: dict[int, Call] = {}
_built_on_gpu: dict[int, GpuCall] = {}


def build_candidate(slot: int, candidate: Candidate, device: Device) -> None:
    """Have ``candidate`` ready in ``slot``, once its answer has been checked.

    Raises
    ------
    ValueError
        It computes something else than the reference.
    GpuBroken
        It has crashed on a GPU, which this process cannot use any more.
    """
    _built.pop(slot, None)
    _built_on_gpu.pop(slot, None)
    if device.on_gpu:
        with _broken_gpu_named():
            _built_on_gpu[slot] = _on_gpu(candidate, device)
    else:
        _built[slot] = _on_cpu(candidate, device)


def _on_cpu(candidate: Candidate, device: Device) -> Call:
    use_threads(device.threads, tvm_ffi)
    made = build(candidate.task.op, candidate.task.problem, candidate.knobs, device.machine)
    library = compiled(made.func, _target(device.target))
    out = tvm.runtime.tensor(unset(made.result_shape, made.result_dtype))
    values = [tvm.runtime.tensor(array) for array in made.arrays]
    library(*values, out)
    check_answer(out.numpy(), expected_answer(candidate.task, made.reference))
    run = library.jit()["main"]
    return lambda: run(*values, out), values[0].numpy()


def _on_gpu(candidate: Candidate, device: Device) -> GpuCall:
    require_gpu(arches_of(_target(device.target))[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "main.so")
        made = link_candidate(candidate, device, path)
        code = Library(str(path)).function("main")
    task = candidate.task
    return checked_call(code, made.arrays, expected_answer(task, made.reference), task.op)


@contextlib.contextmanager
def _broken_gpu_named() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise_if_broken(error)
        raise


@functools.cache
def _target(spec: str) -> tvm.target.Target:
    """Resolving takes 16 ms."""
    return resolve_target(spec)


def time_candidates(slots: list[int], device: Device, turns: int, seconds: float) -> list[list[float]]:
    """Seconds of a call of each, ``turns`` times in turns that take ``seconds`` at least."""
    if device.on_gpu:
        with _broken_gpu_named():
            return times([_built_on_gpu[slot] for slot in slots], turns, seconds)
    found = interleave({str(slot): _built[slot][0] for slot in slots}, turns, seconds)
    return [list(found[str(slot)].samples) for slot in slots]


def time_as_in_network(slots: list[int], device: Device, turns: int, footprint: int) -> list[list[float]]:
    """Seconds of a call of each, ``turns`` times in turns, in a network that touches ``footprint`` bytes."""
    if device.on_gpu:
        with _broken_gpu_named():
            return times([_built_on_gpu[slot] for slot in slots], turns, 0.0, footprint)
    return time_in_turns([_built[slot] for slot in slots], turns, footprint)
