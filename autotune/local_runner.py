"""Trials on this machine: as many candidates are built at once as there are cores, then timed one after the other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

from tvm_fastconv.measure.roofline import measure_clock
from tvm_fastconv.runtime.compiled_model import CompiledModel
from tvm_fastconv.runtime.cpu import processor_name
from tvm_fastconv.runtime.gpu import device_name

from . import measure_candidate
from .candidate import Candidate, Device, Outcome
from .gpu_calls import GpuBroken
from .model_times import ModelTimes, time_models
from .processes import Worker, WorkerError, raise_compilers_error

BUILD_SECONDS, TIME_SECONDS = 60.0, 30.0
"""After which a candidate counts as hanging; a layer takes 0.1 to 1 s to build, and its reference a few."""

GPU_WORKERS = 8

TRIAL_TURNS, TURN_SECONDS = 3, 0.01
"""Of a trial, whose time is the best turn: what a shared machine adds, it adds to some."""


class Runner(Protocol):
    """What measures candidates on some device."""

    @property
    def device(self) -> Device:
        """What candidates are built for."""

    @property
    def width(self) -> int:
        """How many candidates are built at once."""

    @property
    def clock(self) -> float:
        """Cycles of the device in a second."""

    @property
    def processor(self) -> str:
        """What the device calls its processor."""

    def run(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """Build, check and time candidates, each on its own."""

    def compare(
        self, candidates: Sequence[Candidate], turns: int, footprint: int
    ) -> list[list[float]] | None:
        """Seconds of candidates of one task in turns, in a network that touches so many bytes between two of them.

        ``None`` where one of them fails.
        """

    def time_models(
        self, models: Sequence[CompiledModel], inputs: Sequence[Any], turns: int
    ) -> list[ModelTimes] | None:
        """What whole models take, in turns; ``None`` where that fails."""

    def close(self) -> None:
        """Let go of the device."""


class LocalRunner:
    """Measures in worker processes of this machine.

    Parameters
    ----------
    device : Device
        This machine.
    workers : int, optional
        Processes that build side by side; by default one for each core that this process may use, and for a GPU at
        most `GPU_WORKERS`, each of which holds a context there.
    """

    def __init__(self, device: Device, workers: int | None = None) -> None:
        self.device = device
        cores = len(os.sched_getaffinity(0))
        count = workers or (min(cores, GPU_WORKERS) if device.on_gpu else cores)
        self._workers = [Worker(device.threads) for _ in range(count)]
        self.processor = device_name() or "a GPU" if device.on_gpu else processor_name()

    @property
    def width(self) -> int:
        """How many candidates are built at once."""
        return len(self._workers)

    @cached_property
    def clock(self) -> float:
        """Cycles in a second."""
        return self.device.nominal_clock or measure_clock()

    def run(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """Build, check and time candidates; a failure is that candidate's outcome."""
        outcomes: list[Outcome] = []
        for first in range(0, len(candidates), self.width):
            outcomes += self._round(candidates[first : first + self.width])
        return outcomes

    def compare(
        self, candidates: Sequence[Candidate], turns: int, footprint: int
    ) -> list[list[float]] | None:
        """Seconds of candidates of one task, in turns; ``None`` where one of them fails."""
        worker = self._workers[0]
        try:
            for slot, candidate in enumerate(candidates):
                arguments = slot, candidate, self.device
                worker.call(measure_candidate.build_candidate, *arguments, seconds=BUILD_SECONDS)
            seconds = TIME_SECONDS + len(candidates) * turns
            asked = list(range(len(candidates))), self.device, turns, footprint
            return worker.call(measure_candidate.time_as_in_network, *asked, seconds=seconds)
        except WorkerError as error:
            _end_if_broken(worker, error)
            return None

    def time_models(
        self, models: Sequence[CompiledModel], inputs: Sequence[Any], turns: int
    ) -> list[ModelTimes] | None:
        """What whole models take, in turns."""
        return time_models(models, inputs, turns)

    def close(self) -> None:
        """End the worker processes."""
        for worker in self._workers:
            worker.close()

    def _round(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        workers = self._workers[: len(candidates)]
        for worker, candidate in zip(workers, candidates, strict=True):
            worker.send(measure_candidate.build_candidate, 0, candidate, self.device)
        failed: dict[int, str] = {}
        for place, worker in enumerate(workers):
            try:
                worker.receive(BUILD_SECONDS)
            except WorkerError as error:
                failed[place] = str(error)
                _end_if_broken(worker, error)
        return [
            Outcome(None, failed[place]) if place in failed else self._time(worker)
            for place, worker in enumerate(workers)
        ]

    def _time(self, worker: Worker) -> Outcome:
        try:
            arguments = [0], self.device, TRIAL_TURNS, TURN_SECONDS
            (times,) = worker.call(measure_candidate.time_candidates, *arguments, seconds=TIME_SECONDS)
        except WorkerError as error:
            _end_if_broken(worker, error)
            return Outcome(None, str(error))
        return Outcome(min(times))


def _end_if_broken(worker: Worker, error: WorkerError) -> None:
    """A process that has lost its GPU is of no more use; the next call starts another."""
    raise_compilers_error(error)
    if error.kind == GpuBroken.__name__:
        worker.close()
