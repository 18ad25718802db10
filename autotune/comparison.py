"""Whether one thing is faster than another: the median of paired ratios, and how sure it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """How many times faster, and between which values that lies with a confidence of 95 %."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def paired_ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """How many times ``fast`` is faster, turn by turn.

    The interval is that of the median by order statistics, which assumes nothing of how times are distributed
    (Conover, Practical Nonparametric Statistics, 3.2).

    Raises
    ------
    ValueError
        There are fewer than six turns, of which no interval has 95 %.
    """
    ratios = sorted(one / other for one, other in zip(slow, fast, strict=True))
    count = len(ratios)
    outside = _outside(count)
    if outside < 0:
        raise ValueError(f"{count} turns are too few; allowed: 6 or more")
    return Ratio(statistics.median(ratios), ratios[outside], ratios[count - 1 - outside])


def _outside(count: int) -> int:
    """How many of the smallest and of the largest of ``count`` values lie outside the interval; -1 where none may."""
    below, outside = 0.0, -1
    for k in range(count // 2):
        below += math.comb(count, k) / 2**count
        if 2 * below > 1 - CONFIDENCE:
            break
        outside = k
    return outside
