"""Timing of operators alone on a GPU: calls that follow each other in a CUDA graph, between two events.

In a network kernels follow each other so as well. Launched one by one, whatever takes less than the 3.5 µs of a launch
would seem to take them. The functions of CUDA's runtime are those of its reference manual.
"""

import contextlib
import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import ArtifactError
from ..runtime.gpu import cudart
from ..runtime.tvm_runtime import tvm_ffi

Run = Callable[[], object]

MOST_CALLS = 200
"""In one graph."""

_OWN_STREAM, _RELAXED, _ON_DEVICE = 1, 2, 3
"""cudaStreamNonBlocking, cudaStreamCaptureModeRelaxed, cudaMemcpyDeviceToDevice."""

_HANDLE, _RESULT, _SIZE, _INT = (
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_size_t,
    ctypes.c_int,
)
_ARGUMENTS: dict[str, list[Any]] = {
    "cudaStreamCreateWithFlags": [_RESULT, ctypes.c_uint],
    "cudaStreamDestroy": [_HANDLE],
    "cudaStreamSynchronize": [_HANDLE],
    "cudaStreamBeginCapture": [_HANDLE, _INT],
    "cudaStreamEndCapture": [_HANDLE, _RESULT],
    "cudaGraphInstantiate": [_RESULT, _HANDLE, ctypes.c_ulonglong],
    "cudaGraphLaunch": [_HANDLE, _HANDLE],
    "cudaGraphDestroy": [_HANDLE],
    "cudaGraphExecDestroy": [_HANDLE],
    "cudaEventCreate": [_RESULT],
    "cudaEventRecord": [_HANDLE, _HANDLE],
    "cudaEventSynchronize": [_HANDLE],
    "cudaEventElapsedTime": [ctypes.POINTER(ctypes.c_float), _HANDLE, _HANDLE],
    "cudaEventDestroy": [_HANDLE],
    "cudaMalloc": [_RESULT, _SIZE],
    "cudaFree": [_HANDLE],
    "cudaMemsetAsync": [_HANDLE, _INT, _SIZE, _HANDLE],
    "cudaMemcpyAsync": [_HANDLE, _HANDLE, _SIZE, _INT, _HANDLE],
}


def time_in_graphs(runs: Sequence[Run], turns: int, seconds: float) -> list[list[float]]:
    """Seconds of a call of each, ``turns`` times in turns that take ``seconds`` at least.

    Raises
    ------
    ArtifactError
        The GPU refuses, or a call failed on it.
    """
    with _stopwatch() as watch:
        counts = [math.ceil(seconds / _estimate(watch, run)) for run in runs]
        sizes = [min(count, MOST_CALLS) for count in counts]
        graphs = [watch.capture(run, size) for run, size in zip(runs, sizes, strict=True)]
        plans = [
            (graph, -(-count // size), size) for graph, count, size in zip(graphs, counts, sizes, strict=True)
        ]
        times: list[list[float]] = [[] for _ in runs]
        for _ in range(turns):
            for found, (graph, launches, size) in zip(times, plans, strict=True):
                watch.seconds([graph])  # caches settle
                found.append(watch.seconds([graph] * launches) / (launches * size))
    return times


def time_as_in_network(
    runs: Sequence[Run], inputs: Sequence[tuple[int, int]], turns: int, footprint: int
) -> list[list[float]]:
    """Seconds of a call of each, ``turns`` times in turns.

    Before each, ``footprint`` bytes of other memory are written, as the network does from one run of an operator to the
    next, and then the operator's input is copied, which the operator before has just made.

    Parameters
    ----------
    runs, turns
        As for `time_in_graphs`.
    inputs : sequence of tuple of int
        Address and bytes of what each of ``runs`` reads first.
    footprint : int

    Raises
    ------
    ArtifactError
        As by `time_in_graphs`.
    """
    most = max(nbytes for _, nbytes in inputs)
    with _stopwatch() as watch, _memory(footprint) as other, _memory(most) as copy:
        graphs = [watch.capture(run, 1) for run in runs]
        times: list[list[float]] = [[] for _ in runs]
        for turn in range(turns + 1):
            for found, graph, (address, nbytes) in zip(times, graphs, inputs, strict=True):
                _call("cudaMemsetAsync", other, 0, footprint, watch.stream)
                _call("cudaMemcpyAsync", copy, address, nbytes, _ON_DEVICE, watch.stream)
                seconds = watch.seconds([graph])
                if turn:  # the first warms up
                    found.append(seconds)
    return times


def gpu_works() -> bool:
    """Whether all that was begun has ended well; after a kernel that reads where nothing is, nothing does any more."""
    return not cudart().cudaDeviceSynchronize()


def _estimate(watch: "_Stopwatch", run: Run) -> float:
    graph = watch.capture(run, 1)
    return max(1e-7, min(watch.seconds([graph]) for _ in range(3)))


class _Stopwatch:
    """A stream, graphs that were captured on it, and two events around their launches."""

    def __init__(self, stream: int, first: int, last: int) -> None:
        self.stream, self._first, self._last = stream, first, last
        self._graphs: list[int] = []

    def capture(self, run: Run, calls: int) -> int:
        """A graph of so many calls of ``run``, the first of which may still allocate memory."""
        ffi = tvm_ffi()
        with ffi.use_raw_stream(ffi.device("cuda", 0), self.stream):
            run()
            _call("cudaStreamSynchronize", self.stream)
            _call("cudaStreamBeginCapture", self.stream, _RELAXED)
            try:
                for _ in range(calls):
                    run()
            finally:
                captured = ctypes.c_void_p()
                _call("cudaStreamEndCapture", self.stream, ctypes.byref(captured))
        with _owned("cudaGraphDestroy", captured.value or 0) as graph:
            self._graphs.append(_new("cudaGraphInstantiate", graph, 0))
        return self._graphs[-1]

    def seconds(self, graphs: Sequence[int]) -> float:
        """What ``graphs`` take one after the other."""
        _call("cudaEventRecord", self._first, self.stream)
        for graph in graphs:
            _call("cudaGraphLaunch", graph, self.stream)
        _call("cudaEventRecord", self._last, self.stream)
        _call("cudaEventSynchronize", self._last)
        milliseconds = ctypes.c_float()
        _call("cudaEventElapsedTime", ctypes.byref(milliseconds), self._first, self._last)
        return milliseconds.value / 1e3

    def close(self) -> None:
        """Give the graphs back."""
        for graph in self._graphs:
            _call("cudaGraphExecDestroy", graph)


@contextlib.contextmanager
def _stopwatch() -> Iterator[_Stopwatch]:
    with (
        _owned("cudaStreamDestroy", _new("cudaStreamCreateWithFlags", _OWN_STREAM)) as stream,
        _owned("cudaEventDestroy", _new("cudaEventCreate")) as first,
        _owned("cudaEventDestroy", _new("cudaEventCreate")) as last,
        contextlib.closing(_Stopwatch(stream, first, last)) as watch,
    ):
        yield watch


def _memory(nbytes: int) -> contextlib.AbstractContextManager[int]:
    return _owned("cudaFree", _new("cudaMalloc", max(nbytes, 1)))


@contextlib.contextmanager
def _owned(destroy: str, handle: int) -> Iterator[int]:
    try:
        yield handle
    finally:
        _call(destroy, handle)


def _new(create: str, *arguments: int) -> int:
    """What a function of CUDA's hands out by way of its first argument."""
    handle = ctypes.c_void_p()
    _call(create, ctypes.byref(handle), *arguments)
    return handle.value or 0


def _call(name: str, *arguments: Any) -> None:
    runtime = cudart()
    function = getattr(runtime, name)
    function.argtypes = _ARGUMENTS[name]
    if error := function(*arguments):
        runtime.cudaGetErrorString.restype = ctypes.c_char_p
        raise ArtifactError(f"{name}: {runtime.cudaGetErrorString(error).decode(errors='replace')}")
