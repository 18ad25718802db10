"""Microseconds on a GPU: two callables in turns, each as a CUDA graph of several calls where it can be captured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

WARM_UPS, ROUNDS = 3, 9
GRAPH_SECONDS = 2e-3
"""How long one graph is to take: many calls of what is short."""

Call = Callable[[], object]


@dataclass(frozen=True)
class Pair:
    """What two callables take, in microseconds, and how many times faster the first is: medians of the same rounds."""

    ours: float
    rival: float
    ratio: float


def in_turns(ours: Call, rivals: list[Call]) -> Pair:
    """Measure ``ours`` against the fastest of ``rivals``."""
    mine = _repeated(ours)
    others = [_repeated(rival) for rival in rivals]
    rival = min(others, key=_microseconds)
    rounds = [(_microseconds(mine), _microseconds(rival)) for _ in range(ROUNDS)]
    return Pair(
        statistics.median(mine for mine, _ in rounds),
        statistics.median(other for _, other in rounds),
        statistics.median(other / mine for mine, other in rounds),
    )


def awaited(call: Call, repeats: int = 40) -> float:
    """Microseconds from a call to its answer: the median of single calls, each waited for."""
    for _ in range(WARM_UPS):
        call()
    torch.cuda.synchronize()
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - begin)
    return 1e6 * statistics.median(found)


def graph_of(call: Call, repeats: int = 1) -> Call:
    """A CUDA graph of ``repeats`` calls; each of them writes where it wrote when it was captured.

    Raises
    ------
    RuntimeError
        Something in it cannot be captured.
    """
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            call()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(repeats):
            call()
    return graph.replay


def _repeated(call: Call) -> tuple[Call, int]:
    """Several calls as one, and how many."""
    repeats = max(1, min(50, int(GRAPH_SECONDS * 1e6 / awaited(call, 5))))
    try:
        return graph_of(call, repeats), repeats
    except RuntimeError:
        torch.cuda.synchronize()
        return lambda: [call() for _ in range(repeats)], repeats


def _microseconds(repeated: tuple[Call, int]) -> float:
    call, repeats = repeated
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    call()
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) * 1e3 / repeats
