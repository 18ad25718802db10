"""Cycles of one core: by estimate, and as measured where tuning has measured."""

from __future__ import annotations


class Cycles(float):
    """An estimate, as a float, with what was measured beside it.

    Two of them are compared on one footing: by measurement where both have one, by estimate otherwise. A plain number
    stands for both.

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

    def __mul__(self, factor: float) -> Cycles:
        return Cycles(float(self) * factor, None if self.measured is None else self.measured * factor)

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> float:
        mine, others = _on_one_footing(self, other)
        return mine / others

    def __lt__(self, other: float) -> bool:
        mine, others = _on_one_footing(self, other)
        return mine < others

    def __gt__(self, other: float) -> bool:
        mine, others = _on_one_footing(self, other)
        return mine > others

    def __le__(self, other: float) -> bool:
        return not self > other

    def __ge__(self, other: float) -> bool:
        return not self < other


def _measured(value: float) -> float | None:
    return value.measured if isinstance(value, Cycles) else value


def _on_one_footing(one: float, other: float) -> tuple[float, float]:
    measured = _measured(one), _measured(other)
    if measured[0] is not None and measured[1] is not None:
        return measured[0], measured[1]
    return float(one), float(other)
