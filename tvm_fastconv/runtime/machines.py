"""Calls by way of TVM's virtual machine: what dynamic shapes and GPUs need, and whoever looks at single functions."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..artifact.manifest import Manifest
from ..errors import ArtifactError
from ..measure.profile import CallTimer
from .arrays import address_range, bind_inputs, is_on_gpu, is_torch, unwrap_outputs
from .device import CPU, CUDA, Device
from .gpu import TURNS, wait_for_gpu, without_graphs
from .threads import use_threads
from .tvm_runtime import Library, tvm_ffi

WEIGHT_FUNCTION = "fastconv_weight"
"""Exported by every compiled file: number of a weight to the tensor that lies in the mapped file."""

_ENTRY = "main"


class Machines:
    """The virtual machines of a library, as many as there are threads that call at once."""

    def __init__(self, library: Library, path: str, manifest: Manifest, threads: int) -> None:
        self._library, self._path, self._manifest, self._threads = library, path, manifest, threads
        self._device = device_of(manifest)
        self._idle: list[Any] = []  # entry functions, each of a machine that no thread is using
        self._weights: tuple[tuple[int, int], ...] = ()
        if weights := manifest.weights:
            begin = library.function(WEIGHT_FUNCTION)(0).data_ptr()
            self._weights = ((begin, begin + max(weight.offset + weight.nbytes for weight in weights)),)

    def make_one(self) -> None:
        """Make a machine for the first call; what is wrong with the file's code is said now."""
        with self._turn():
            self._idle.append(self._library.new_machine()[_ENTRY])

    def __call__(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """Run the model; as `CompiledModel.__call__`, with all outputs in a tuple."""
        on_gpu = any(map(is_on_gpu, inputs))
        with self._turn(on_gpu):
            arguments = self._bind(inputs)
            result = self._run(arguments)
            borrowed = self._borrowed(arguments)
            return unwrap_outputs(result, borrowed, as_torch=any(map(is_torch, inputs)), on_gpu=on_gpu)

    def on(self, inputs: Sequence[Any]) -> Callable[[], None]:
        """A function that runs the model on ``inputs`` and leaves its outputs where they are."""
        with self._turn():
            arguments = self._bind(inputs)

        def run() -> None:
            with self._turn():
                self._run(arguments)
                self._wait()

        return run

    def call_timer(self, inputs: Sequence[Any]) -> CallTimer:
        """A function that runs the model on ``inputs`` and times every call in it."""
        with self._turn():
            arguments = self._bind(inputs)
            return CallTimer(
                self._own_machine(), _ENTRY, arguments, self._manifest.calls, self._wait, self._turn
            )

    def run_instrumented(
        self, instrument: Callable[..., None], inputs: Sequence[Any]
    ) -> tuple[np.ndarray, ...]:
        """Run the model once, with ``instrument`` called before and after each of its functions."""
        with self._turn():
            arguments = self._bind(inputs)
            machine = self._own_machine()
            machine["set_instrument"](instrument)
            return unwrap_outputs(machine[_ENTRY](*arguments), self._borrowed(arguments), as_torch=False)

    def _bind(self, inputs: Sequence[Any]) -> list[Any]:
        arguments = bind_inputs(inputs, self._manifest.inputs, self._device)
        use_threads(self._threads, tvm_ffi())
        return arguments

    def _borrowed(self, arguments: Sequence[Any]) -> tuple[tuple[int, int], ...]:
        """Memory that no output may point into."""
        return (*self._weights, *map(address_range, arguments, self._manifest.inputs))

    def _run(self, arguments: list[Any]) -> Any:
        """Run the entry function on a machine of this thread's own; one that failed is not used again."""
        try:
            entry = self._idle.pop()
        except IndexError:
            entry = self._library.new_machine()[_ENTRY]
        try:
            result = entry(*arguments)
        except Exception as error:  # nothing that was bound: the file's manifest and its code do not agree
            line = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise ArtifactError(f"{self._path} cannot run: {line}") from error
        self._idle.append(entry)
        return result

    def _own_machine(self) -> Any:
        """A virtual machine for an instrument, which cannot be taken off again and sees single calls."""
        with contextlib.nullcontext() if self._device == CPU else without_graphs():
            return self._library.new_machine()

    def _wait(self) -> None:
        """Return when everything that was begun is done."""
        if self._device == CUDA:
            wait_for_gpu()

    def _turn(self, on_gpu: bool = False) -> contextlib.AbstractContextManager[None]:
        """What a call runs in: on a GPU one after the other, on PyTorch's stream if its inputs are there."""
        if self._device == CPU:
            return contextlib.nullcontext()
        return TURNS.on(sys.modules["torch"].cuda.current_stream(0).cuda_stream if on_gpu else 0)


def device_of(manifest: Manifest) -> Device:
    """Where a compiled file runs."""
    return CUDA if manifest.gpu_arches else CPU
