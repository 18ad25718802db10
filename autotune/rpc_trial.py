"""A trial on a device behind TVM's RPC tracker: built here, checked and timed there; runs in a worker process."""

from __future__ import annotations

import functools
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tvm
from tvm import rpc

from tvm_fastconv.measure.cold_caches import time_in_turns
from tvm_fastconv.measure.timing import interleave
from tvm_fastconv.topi.operators import Sample

from .candidate import Candidate, Device
from .check_answer import check_answer, expected_answer, unset
from .link_candidate import link_candidate
from .rpc_address import Address, Description

DESCRIBE, TIME = "fastconv.describe", "fastconv.time_in_turns"
"""Functions of a server of ours: what it is, and what calls take there."""

FROM_CACHES = -1
"""In place of a network's footprint."""

WAITING_SECONDS = 15.0
"""For a device that the tracker does not know: one that was started again announces itself in a few."""

SHARE_ALL_CORES = -3
"""TVM's thread pool: any core will do."""

T = TypeVar("T")


class DeviceError(Exception):
    """The device did not answer; the candidate may be as good as any."""


def describe_device(address: Address, seconds: float) -> Description:
    """What one of the devices says of itself.

    Raises
    ------
    DeviceError
        None answers, or what it says is nothing of the kind.
    """
    session = open_session(address, seconds)
    return asking(lambda: Description.from_json(str(session.get_function(DESCRIBE)())))


@dataclass(frozen=True)
class Turns:
    """How candidates are timed.

    Attributes
    ----------
    count : int
    seconds : float
        That a turn lasts, of calls from caches.
    footprint : int, optional
        Bytes that a network touches between two calls; with it, a turn is one call.
    """

    count: int
    seconds: float
    footprint: int | None = None


def time_on_device(
    candidates: list[Candidate], device: Device, address: Address, turns: Turns, seconds: float
) -> list[list[float]]:
    """Seconds of a call of each candidate, in turns.

    Raises
    ------
    ValueError
        One computes something else than the reference.
    DeviceError
        The device does not answer within ``seconds``.
    """
    with tempfile.TemporaryDirectory() as folder:
        built = [link_candidate(each, device, Path(folder, f"{i}.so")) for i, each in enumerate(candidates)]
        expected = [
            expected_answer(each.task, made.reference) for each, made in zip(candidates, built, strict=True)
        ]
        session = open_session(address, seconds)
        asking(lambda: _use_threads(session, device.threads))
        loaded = [
            _loaded(session, made, Path(folder, f"{i}.so"), expected[i]) for i, made in enumerate(built)
        ]
        times = asking(lambda: _times(session, loaded, turns))
        for i in range(len(built)):
            asking(lambda i=i: session.remove(f"{i}.so"))  # type: ignore[misc]
    return times


def serve_times(turns: int, seconds: float, footprint: int, *calls: Any) -> str:
    """In a server: seconds of calls by turns, as JSON; each call is a module, the number of its arrays, and those."""
    left, found = list(calls), []
    while left:
        module, count = left[:2]
        arrays, left = left[2 : 2 + count], left[2 + count :]
        found.append((functools.partial(module["main"], *arrays), arrays[0].numpy()))
    if footprint != FROM_CACHES:
        return json.dumps(time_in_turns(found, turns, footprint))
    times = interleave({str(place): run for place, (run, _) in enumerate(found)}, turns, seconds)
    return json.dumps([timing.samples for timing in times.values()])


def open_session(address: Address, seconds: float) -> Any:
    """Ask the tracker for a device, for at most ``seconds``.

    Raises
    ------
    DeviceError
        None answers.
    """
    tracker = asking(lambda: rpc.connect_tracker(address.host, address.port))
    until = time.monotonic() + WAITING_SECONDS
    while f"server:{address.name}" not in {str(s["key"]) for s in asking(tracker.summary)["server_info"]}:
        if time.monotonic() > until:
            raise DeviceError("the tracker knows of none")  # and a request would wait until one comes
        time.sleep(0.2)
    return asking(lambda: tracker.request(address.name, session_timeout=seconds, max_retry=1))


def _use_threads(session: Any, threads: int) -> None:
    session.get_function("runtime.config_threadpool")(SHARE_ALL_CORES, threads)


def _loaded(session: Any, made: Sample, path: Path, expected: np.ndarray) -> tuple[Any, list[Any]]:
    """A module of the device and what its function reads and writes, once the answer has been checked."""

    def load() -> tuple[Any, list[Any]]:
        session.upload(str(path))
        module, cpu = session.load_module(path.name), session.cpu(0)
        result = unset(made.result_shape, made.result_dtype)
        arrays = [tvm.runtime.tensor(array, cpu) for array in (*made.arrays, result)]
        module["main"](*arrays)
        return module, arrays

    module, arrays = asking(load)
    check_answer(asking(arrays[-1].numpy), expected)
    return module, arrays


def _times(session: Any, loaded: Sequence[tuple[Any, list[Any]]], turns: Turns) -> list[list[float]]:
    calls = [part for module, arrays in loaded for part in (module, len(arrays), *arrays)]
    footprint = FROM_CACHES if turns.footprint is None else turns.footprint
    told = session.get_function(TIME)(turns.count, turns.seconds, footprint, *calls)
    return parse_times(str(told), len(loaded), turns.count)


def parse_times(text: str, calls: int, turns: int) -> list[list[float]]:
    """What `serve_times` has told.

    Raises
    ------
    ValueError
        It is something else.
    """
    found = json.loads(text)
    if not isinstance(found, list) or [len(times) for times in found] != [turns] * calls:
        raise ValueError("it has told no times")
    if not all(isinstance(value, float) and 0 < value < math.inf for times in found for value in times):
        raise ValueError("a time is no positive number of seconds")
    return found


def asking(question: Callable[[], T]) -> T:
    """What the device answers to ``question``.

    Raises
    ------
    DeviceError
        Whatever goes wrong meanwhile.
    """
    try:
        return question()
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DeviceError(f"the device does not answer: {line[:300]}") from error
