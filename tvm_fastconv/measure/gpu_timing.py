"""Timing of operators alone on a GPU: calls that follow each other in a CUDA graph, between two events.

In a network kernels follow each other so as well. Launched one by one, whatever takes less than the 3.5 µs of a launch
would seem to take them.
"""

import contextlib
import ctypes
import math
from collections.abc import Callable, Iterator, Sequence

from ..runtime.cudart import OWN_STREAM, call, capturing, copy, cudart, new, owned
from ..runtime.tvm_runtime import tvm_ffi

Run = Callable[[], object]

MOST_CALLS = 200
"""In one graph."""


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
    with _stopwatch() as watch, _memory(footprint) as other, _memory(most) as spare:
        graphs = [watch.capture(run, 1) for run in runs]
        times: list[list[float]] = [[] for _ in runs]
        for turn in range(turns + 1):
            for found, graph, (address, nbytes) in zip(times, graphs, inputs, strict=True):
                call("cudaMemsetAsync", other, 0, footprint, watch.stream)
                copy(spare, address, nbytes, watch.stream)
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
            call("cudaStreamSynchronize", self.stream)
            with capturing(self.stream) as graphs:
                for _ in range(calls):
                    run()
        self._graphs += graphs
        return self._graphs[-1]

    def seconds(self, graphs: Sequence[int]) -> float:
        """What ``graphs`` take one after the other."""
        call("cudaEventRecord", self._first, self.stream)
        for graph in graphs:
            call("cudaGraphLaunch", graph, self.stream)
        call("cudaEventRecord", self._last, self.stream)
        call("cudaEventSynchronize", self._last)
        milliseconds = ctypes.c_float()
        call("cudaEventElapsedTime", ctypes.byref(milliseconds), self._first, self._last)
        return milliseconds.value / 1e3

    def close(self) -> None:
        """Give the graphs back."""
        for graph in self._graphs:
            call("cudaGraphExecDestroy", graph)


@contextlib.contextmanager
def _stopwatch() -> Iterator[_Stopwatch]:
    with (
        owned("cudaStreamDestroy", new("cudaStreamCreateWithFlags", OWN_STREAM)) as stream,
        owned("cudaEventDestroy", new("cudaEventCreate")) as first,
        owned("cudaEventDestroy", new("cudaEventCreate")) as last,
        contextlib.closing(_Stopwatch(stream, first, last)) as watch,
    ):
        yield watch


def _memory(nbytes: int) -> contextlib.AbstractContextManager[int]:
    return owned("cudaFree", new("cudaMalloc", max(nbytes, 1)))
