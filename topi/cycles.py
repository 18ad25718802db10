"""Cycles of one core: by estimate, and as measured where tuning has measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K")


class Cycles(float):
    """An estimate, as a float, with what was measured beside it; a plain number stands for both.

    Attributes
    ----------
    measured : float, optional
    """

    measured: float | None

    def __new__(cls, estimate: float, measured: float | None = None) -> Cycles:
        """Both of one thing."""
        self = super().__new__(cls, estimate)
        self.measured = measured
        return self

    def __add__(self, other: float) -> Cycles:
        more = _measured(other)
        both = None if self.measured is None or more is None else self.measured + more
        return Cycles(float(self) + float(other), both)

    __radd__ = __add__

    def at_least(self, floor: float) -> Cycles:
        """The estimate no less than ``floor``; what was measured has paid for it."""
        return Cycles(max(float(self), floor), self.measured)


def on_one_footing(costs: Mapping[K, float]) -> dict[K, float]:
    """What alternatives cost, to be compared with each other: as measured if all were, else by estimate."""
    measured = {key: _measured(cost) for key, cost in costs.items()}
    known = {key: cost for key, cost in measured.items() if cost is not None}
    return known if len(known) == len(costs) else {key: float(cost) for key, cost in costs.items()}


def cheapest(costs: Mapping[K, float]) -> K:
    """The alternative that costs least; the first of equals."""
    compared = on_one_footing(costs)
    return min(compared, key=compared.__getitem__)


def _measured(value: float) -> float | None:
    return value.measured if isinstance(value, Cycles) else value
