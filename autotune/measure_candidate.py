"""Build a candidate, compare its answer with the reference, and time it: what runs in a worker process."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tvm
import tvm_ffi

from tvm_fastconv.measure.timing import interleave
from tvm_fastconv.runtime.threads import use_threads
from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.build_operator import build, compiled, unset

from .candidate import Candidate, Device, Task

TOLERANCE = 2e-5
"""Of floats, relative to the largest output: what a layer may differ by from plain float32; Winograd comes closest."""


@dataclass(frozen=True)
class _Built:
    """A candidate that is ready to run, and the input that it reads."""

    run: Callable[[], object]
    data: np.ndarray


_built: dict[int, _Built] = {}
_expected: dict[Task, np.ndarray] = {}


def build_candidate(slot: int, candidate: Candidate, device: Device) -> None:
    """Have ``candidate`` ready in ``slot``, once its answer has been checked.

    Raises
    ------
    ValueError
        It computes something else than the reference.
    """
    _built.pop(slot, None)
    use_threads(device.threads, tvm_ffi)
    made = build(candidate.task.op, candidate.task.problem, candidate.knobs, device.machine)
    library = compiled(made.func, _target(device.target))
    out = tvm.runtime.tensor(unset(made.result_shape, made.result_dtype))
    values = [tvm.runtime.tensor(array) for array in made.arrays]
    library(*values, out)
    if candidate.task not in _expected:
        _expected.clear()
        _expected[candidate.task] = made.reference()
    check_answer(out.numpy(), _expected[candidate.task])
    run = library.jit()["main"]
    _built[slot] = _Built(lambda: run(*values, out), values[0].numpy())


@functools.cache
def _target(spec: str) -> tvm.target.Target:
    """Resolving takes 16 ms."""
    return resolve_target(spec)


def check_answer(got: np.ndarray, want: np.ndarray) -> None:
    """Compare an answer with the reference: integers are equal, floats within `TOLERANCE` of the largest.

    Raises
    ------
    ValueError
        It differs.
    """
    if got.shape != want.shape:
        raise ValueError(f"wrong answer: shape {got.shape}, not {want.shape}")
    if np.issubdtype(want.dtype, np.floating):
        largest = np.abs(want).max(initial=0.0)
        difference = np.abs(got.astype(np.float64) - want).max(initial=0.0)
        if not difference <= TOLERANCE * largest:
            raise ValueError(
                f"wrong answer: off by {difference / max(largest, 1e-30):.0e} of the largest value"
            )
    elif not np.array_equal(got, want):
        raise ValueError(f"wrong answer: {np.mean(got != want):.0%} of the values differ")


def time_candidates(slots: list[int], turns: int, seconds: float) -> list[list[float]]:
    """Seconds of a call of each, ``turns`` times in turns that take ``seconds`` at least."""
    times = interleave({str(slot): _built[slot].run for slot in slots}, turns, seconds)
    return [list(times[str(slot)].samples) for slot in slots]


def time_as_in_network(slots: list[int], turns: int, footprint: int) -> list[list[float]]:
    """Seconds of a call of each, ``turns`` times in turns, when caches hold what they do in a network.

    Before each call, as much other memory is read and written as the network touches from one run of an operator to
    the next, and then the operator's input is read, which the operator before has just made. A depthwise layer of
    1.6 MB takes 71 µs from caches and 154 in a network (Zen 4): knobs and operators cannot be compared by the first.
    """
    other = np.zeros(footprint // 4, np.float32)
    times: list[list[float]] = [[] for _ in slots]
    for turn in range(turns + 1):
        for place, slot in enumerate(slots):
            np.add(other, 1, out=other)
            _built[slot].data.max()
            begin = time.perf_counter()
            _built[slot].run()
            seconds = time.perf_counter() - begin
            if turn:  # the first warms up
                times[place].append(seconds)
    return times
