"""Build a candidate, compare its answer with the reference, and time it: what runs in a worker process."""

from __future__ import annotations

import functools

import tvm
import tvm_ffi

from tvm_fastconv.measure.cold_caches import Call, time_in_turns
from tvm_fastconv.measure.timing import interleave
from tvm_fastconv.runtime.threads import use_threads
from tvm_fastconv.targets import resolve_target
from tvm_fastconv.topi.build_operator import build, compiled

from .candidate import Candidate, Device
from .check_answer import check_answer, expected_answer, unset

_built: dict[int, Call] = {}


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
    check_answer(out.numpy(), expected_answer(candidate.task, made.reference))
    run = library.jit()["main"]
    _built[slot] = lambda: run(*values, out), values[0].numpy()


@functools.cache
def _target(spec: str) -> tvm.target.Target:
    """Resolving takes 16 ms."""
    return resolve_target(spec)


def time_candidates(slots: list[int], turns: int, seconds: float) -> list[list[float]]:
    """Seconds of a call of each, ``turns`` times in turns that take ``seconds`` at least."""
    times = interleave({str(slot): _built[slot][0] for slot in slots}, turns, seconds)
    return [list(times[str(slot)].samples) for slot in slots]


def time_as_in_network(slots: list[int], turns: int, footprint: int) -> list[list[float]]:
    """Seconds of a call of each, ``turns`` times in turns, in a network that touches ``footprint`` bytes."""
    return time_in_turns([_built[slot] for slot in slots], turns, footprint)
