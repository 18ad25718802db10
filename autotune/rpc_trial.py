"""A trial on a device behind TVM's RPC tracker: built here, checked and timed there; runs in a worker process."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tvm
from tvm import rpc

from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.operators import Sample

from .candidate import Candidate, Device, Task
from .check_answer import check_answer, unset
from .link_candidate import link_candidate

DESCRIBE = "fastconv.describe"
"""The function of a server of ours that says what it is."""

SHARE_ALL_CORES = -3
"""TVM's thread pool: any core will do."""

T = TypeVar("T")


class DeviceError(Exception):
    """The device did not answer; the candidate may be as good as any."""


@dataclass(frozen=True)
class Address:
    """Where devices are found.

    Attributes
    ----------
    host, port : str, int
        Of the tracker.
    key : str
        As the devices are called.
    secret : str
        Shared with them, or nobody is found.
    """

    host: str
    port: int
    key: str
    secret: str = ""

    @property
    def name(self) -> str:
        """The key that the tracker knows."""
        return tracker_key(self.key, self.secret)


@dataclass(frozen=True)
class Description:
    """What a server says of its device."""

    target: str
    machine: Machine
    processor: str
    clock: float

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Description:
        """Inverse of `to_json`.

        Raises
        ------
        ValueError
            It is none.
        """
        found = json.loads(text)
        if not isinstance(found, dict) or set(found) != {"target", "machine", "processor", "clock"}:
            raise ValueError("it describes no device")
        machine = Machine.from_json(json.dumps(found["machine"]))
        clock = float(found["clock"])
        if not 1e6 < clock < 1e11:
            raise ValueError(f"its clock of {clock:g} Hz is none")
        return cls(str(found["target"]), machine, str(found["processor"])[:200], clock)


def tracker_key(key: str, secret: str) -> str:
    """What a device is called on the tracker: nobody who lacks the secret can ask for it."""
    return key if not secret else f"{key}-{hashlib.sha256(secret.encode()).hexdigest()[:32]}"


def describe_device(address: Address, seconds: float) -> Description:
    """What one of the devices says of itself.

    Raises
    ------
    DeviceError
        None answers, or what it says is nothing of the kind.
    """
    session = _session(address, seconds)
    return _asking(lambda: Description.from_json(str(session.get_function(DESCRIBE)())))


_expected: dict[Task, np.ndarray] = {}


def time_on_device(
    candidates: list[Candidate], device: Device, address: Address, turns: int, turn: float, seconds: float
) -> list[list[float]]:
    """Seconds of a call of each candidate, in turns that last ``turn`` seconds.

    Raises
    ------
    ValueError
        One computes something else than the reference.
    DeviceError
        The device does not answer within ``seconds``.
    """
    with tempfile.TemporaryDirectory() as folder:
        built = [_built(candidate, device, Path(folder, f"{i}.so")) for i, candidate in enumerate(candidates)]
        session = _session(address, seconds)
        _asking(lambda: _use_threads(session, device.threads))
        timers = [
            _timer(session, made, Path(folder, f"{i}.so"), candidates[i].task, turn)
            for i, made in enumerate(built)
        ]
        times = _asking(lambda: [[timer() for timer in timers] for _ in range(turns)])
        for i in range(len(built)):
            _asking(lambda i=i: session.remove(f"{i}.so"))  # type: ignore[misc]
    return [list(column) for column in zip(*times, strict=True)]


def _built(candidate: Candidate, device: Device, path: Path) -> Sample:
    made = link_candidate(candidate, device, path)
    if candidate.task not in _expected:
        _expected.clear()
        _expected[candidate.task] = made.reference()
    return made


def _session(address: Address, seconds: float) -> Any:
    tracker = _asking(lambda: rpc.connect_tracker(address.host, address.port))
    servers = _asking(tracker.summary)["server_info"]
    if f"server:{address.name}" not in {str(server["key"]) for server in servers}:
        raise DeviceError("the tracker knows of none")  # and a request would wait until one comes
    return _asking(lambda: tracker.request(address.name, session_timeout=seconds, max_retry=1))


def _use_threads(session: Any, threads: int) -> None:
    session.get_function("runtime.config_threadpool")(SHARE_ALL_CORES, threads)


def _timer(session: Any, made: Sample, path: Path, task: Task, turn: float) -> Callable[[], float]:
    """A function that times one turn on the device, once the answer has been checked."""

    def load() -> tuple[Any, list[Any]]:
        session.upload(str(path))
        module, cpu = session.load_module(path.name), session.cpu(0)
        result = unset(made.result_shape, made.result_dtype)
        arrays = [tvm.runtime.tensor(array, cpu) for array in (*made.arrays, result)]
        module["main"](*arrays)
        return module, arrays

    module, arrays = _asking(load)
    check_answer(_asking(arrays[-1].numpy), _expected[task])
    evaluate = module.time_evaluator(
        "main", session.cpu(0), number=1, repeat=1, min_repeat_ms=round(1e3 * turn)
    )
    return lambda: float(evaluate(*arrays).mean)


def _asking(question: Callable[[], T]) -> T:
    """What the device answers; whatever goes wrong meanwhile is its fault."""
    try:
        return question()
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DeviceError(f"the device does not answer: {line[:300]}") from error
