"""Trials on devices behind TVM's RPC tracker: several of one key measure at once, and one that drops is replaced."""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import rpc

from tvm_fastconv.errors import FastconvError, InputError
from tvm_fastconv.runtime.compiled_model import CompiledModel
from tvm_fastconv.temporary import temporary_folder

from . import rpc_trial
from .candidate import Candidate, Device, Outcome
from .local_runner import TRIAL_TURNS, TURN_SECONDS
from .model_times import ModelTimes
from .processes import Worker, WorkerError
from .rpc_address import Address, Description
from .rpc_models import time_models_on_device
from .rpc_trial import DeviceError, Turns

log = logging.getLogger(__name__)

TRIES = 3
"""Of one candidate, on whatever device is free, before it counts as failed."""

PATIENCE = 8
"""Devices that do not answer, one after the other, before tuning ends."""

ANSWER_SECONDS = 10.0
"""Of the tracker."""

HOST_SECONDS = 120.0
"""Beside the device's time: to build and send a candidate, and to wait for a device that others use."""


class RPCRunner:
    """Measures on devices that servers of ours announce to a tracker.

    Parameters
    ----------
    address : Address
    threads : int
        Of parallel loops on the device.
    seconds : float
        After which a device that does not answer counts as gone.
    devices : int, optional
        How many are used at once; by default all that the tracker knows.

    Raises
    ------
    InputError
        The tracker does not answer, or knows no such device.
    """

    def __init__(
        self, address: Address, threads: int = 1, seconds: float = 60.0, devices: int | None = None
    ) -> None:
        self.address, self.seconds = address, seconds
        known = _count_devices(address)
        self._workers = [Worker() for _ in range(devices or known)]
        self.description = self._describe()
        self.device = Device(self.description.target, self.description.machine, threads)

    @property
    def clock(self) -> float:
        """Cycles in a second, as the device says."""
        return self.description.clock

    @property
    def processor(self) -> str:
        """As the device says."""
        return self.description.processor

    @property
    def width(self) -> int:
        """How many candidates are measured at once."""
        return len(self._workers)

    def run(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """Build, check and time candidates, each on the device that is free first.

        Raises
        ------
        FastconvError
            No device answers any more.
        """
        round_ = _Round(candidates)
        threads = [threading.Thread(target=self._serve, args=(worker, round_)) for worker in self._workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if round_.gone is not None:
            raise FastconvError(f"no device {self.address.key!r} answers any more: {round_.gone}")
        return [round_.outcomes[place] for place in range(len(candidates))]

    def compare(
        self, candidates: Sequence[Candidate], turns: int, footprint: int
    ) -> list[list[float]] | None:
        """Seconds of candidates of one task, in turns on one device; ``None`` where that fails."""
        for _ in range(TRIES):
            try:
                return self._time(self._workers[0], list(candidates), Turns(turns, 0.0, footprint))
            except WorkerError as error:
                if not _is_the_device(error):
                    return None
        return None

    def time_models(
        self, models: Sequence[CompiledModel], inputs: Sequence[Any], turns: int
    ) -> list[ModelTimes] | None:
        """What whole models take, in turns on one device; ``None`` where that fails."""
        with temporary_folder() as folder:
            paths = [folder / f"{place}.so" for place in range(len(models))]
            for model, path in zip(models, paths, strict=True):
                model.save(path)
            seconds = turns * self.seconds
            arrays = [np.asarray(value) for value in inputs]
            try:
                return self._workers[0].call(
                    time_models_on_device, paths, arrays, self.device.threads, self.address, turns, seconds,
                    seconds=HOST_SECONDS + seconds,
                )  # fmt: skip
            except WorkerError as error:
                log.warning("the whole model is not compared: %s", error)
                return None

    def close(self) -> None:
        """End the sessions."""
        for worker in self._workers:
            worker.close()

    def _serve(self, worker: Worker, round_: _Round) -> None:
        """Take candidates until none is left, or no device answers."""
        while round_.gone is None:
            try:
                place, tries = round_.waiting.get_nowait()
            except queue.Empty:
                return
            try:
                (times,) = self._time(worker, [round_.candidates[place]], Turns(TRIAL_TURNS, TURN_SECONDS))
                round_.answered(place, Outcome(min(times)))
            except WorkerError as error:
                if not _is_the_device(error):
                    round_.answered(place, Outcome(None, str(error)))
                elif tries + 1 < TRIES:
                    round_.dropped(str(error))
                    round_.waiting.put((place, tries + 1))
                else:
                    round_.dropped(str(error))
                    round_.outcomes[place] = Outcome(None, str(error))

    def _time(self, worker: Worker, candidates: list[Candidate], turns: Turns) -> list[list[float]]:
        arguments = candidates, self.device, self.address, turns, self.seconds
        return worker.call(rpc_trial.time_on_device, *arguments, seconds=HOST_SECONDS + self.seconds)

    def _describe(self) -> Description:
        try:
            return self._workers[0].call(
                rpc_trial.describe_device, self.address, self.seconds, seconds=HOST_SECONDS
            )
        except WorkerError as error:
            self.close()
            raise InputError(f"device {self.address.key!r}: {error}") from None


class _Round:
    """Candidates that several threads share."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self.waiting: queue.Queue[tuple[int, int]] = queue.Queue()
        for place in range(len(candidates)):
            self.waiting.put((place, 0))
        self.outcomes: dict[int, Outcome] = {}
        self.gone: str | None = None
        self._silent = 0
        self._lock = threading.Lock()

    def answered(self, place: int, outcome: Outcome) -> None:
        """A device has answered, if only that the candidate is a bad one."""
        with self._lock:
            self.outcomes[place] = outcome
            self._silent = 0

    def dropped(self, why: str) -> None:
        """A device has not."""
        with self._lock:
            self._silent += 1
            if self._silent >= PATIENCE:
                self.gone = why


def _is_the_device(error: WorkerError) -> bool:
    return error.kind == DeviceError.__name__ or error.kind is None


def _count_devices(address: Address) -> int:
    """How many servers have announced themselves by this key."""
    where = f"{address.host}:{address.port}"
    try:
        socket.create_connection((address.host, address.port), timeout=ANSWER_SECONDS).close()
        tracker = rpc.connect_tracker(address.host, address.port)  # which would ask for a minute
        found = [str(server["key"]) for server in tracker.summary()["server_info"]]
        tracker.close()
    except Exception as error:
        raise InputError(f"no tracker answers at {where}: {str(error).strip().splitlines()[-1]}") from None
    names = [name.removeprefix("server:") for name in found]
    count = names.count(address.name)
    if not count:
        keys = ", ".join(sorted({name.rpartition("-")[0] or name for name in names})) or "none"
        raise InputError(
            f"the tracker at {where} knows no device {address.key!r} with this secret; it knows: {keys}"
        )
    return count
