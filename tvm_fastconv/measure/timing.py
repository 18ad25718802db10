"""Fair timing of several callables: repeats interleaved in one run, so that all of them see the same machine.

A machine shared with others changes its speed within seconds. Measuring A fully and then B compares two machines;
measuring A B C A B C ... compares A, B and C.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

WARM_UP_CALLS = (
    3  # the first call compiles, allocates or faults pages in; the next two settle caches and frequency
)


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one callable.

    Parameters
    ----------
    samples
        One entry per repeat: the mean seconds per call within that repeat's turn.
    calls
        Calls averaged in each sample.
    """

    samples: tuple[float, ...]
    calls: int

    @property
    def median(self) -> float:
        """Median over the repeats, in seconds."""
        return statistics.median(self.samples)

    @property
    def best(self) -> float:
        """Fastest repeat, in seconds."""
        return min(self.samples)

    @property
    def spread(self) -> float:
        """Interquartile range over the median: 0.05 means that half of the repeats lie within 5 % of each other."""
        if len(self.samples) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (high - low) / self.median


def interleave(
    callables: Mapping[str, Callable[[], object]], repeats: int = 15, min_time: float = 0.05
) -> dict[str, Timing]:
    """Time every callable, taking turns: A B C A B C ...

    Each turn starts with one untimed call, so that caches, and thread pools that another callable left spinning,
    settle before the clock starts. Garbage collection is off while timing.

    Parameters
    ----------
    callables
        Name to a function of no arguments.
    repeats
        Turns of each callable.
    min_time
        Seconds that the timed part of a turn lasts at least, as estimated during the warm-up.

    Returns
    -------
    dict[str, Timing]
        In the order of ``callables``.
    """
    calls = {name: _calls_per_turn(call, min_time) for name, call in callables.items()}
    samples: dict[str, list[float]] = {name: [] for name in callables}
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            for name, call in callables.items():
                call()
                samples[name].append(_seconds_per_call(call, calls[name]))
    finally:
        if was_enabled:
            gc.enable()
    return {name: Timing(tuple(values), calls[name]) for name, values in samples.items()}


def _calls_per_turn(call: Callable[[], object], min_time: float) -> int:
    fastest = min(_seconds_per_call(call, 1) for _ in range(WARM_UP_CALLS))
    return max(1, math.ceil(min_time / max(fastest, 1e-9)))


def _seconds_per_call(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls
