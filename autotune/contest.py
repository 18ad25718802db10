"""The end of a search: the fastest knobs of a task against its default, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tvm_fastconv.topi.knobs import KnobSet

from .comparison import Ratio, paired_ratio

TURNS = 21
LEAST_RATIO = 1.01
"""By which the lower end of the interval must beat the default."""


@dataclass(frozen=True)
class Decision:
    """Who has won: knobs, how many times faster than the default they are, and what both take."""

    knobs: KnobSet
    ratio: Ratio
    seconds: float
    default_seconds: float


def decide(contestants: Sequence[KnobSet], times: Sequence[Sequence[float]]) -> Decision:
    """Who wins by ``times``: who beats the default, the first, by more than the noise; else the default.

    Those without times lose.
    """
    default, *rivals = contestants
    ratios = [paired_ratio(times[0], each) for each in times[1:]]
    best = max(range(len(ratios)), key=lambda place: ratios[place].median, default=None)
    usual = statistics.median(times[0])
    if best is None or ratios[best].low < LEAST_RATIO:
        return Decision(default, Ratio(1.0, 1.0, 1.0), usual, usual)
    return Decision(rivals[best], ratios[best], statistics.median(times[1 + best]), usual)
