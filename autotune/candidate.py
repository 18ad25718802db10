"""What a trial is about, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm_fastconv.topi.gpu import Gpu
from tvm_fastconv.topi.knobs import KnobSet
from tvm_fastconv.topi.machine import Machine


@dataclass(frozen=True)
class Task:
    """An operator and what it is asked.

    Attributes
    ----------
    op : str
    problem : Problem
    """

    op: str
    problem: Any

    @property
    def key(self) -> tuple[str, str]:
        """As records know it."""
        return self.op, self.problem.key


@dataclass(frozen=True)
class Candidate:
    """A task with knobs for it."""

    task: Task
    knobs: KnobSet


@dataclass(frozen=True)
class Group:
    """Candidates of one task that are timed in turns.

    Attributes
    ----------
    candidates : tuple of Candidate
    turns : int
    footprint : int, optional
        Bytes that a network touches between two runs; without, a candidate runs from its caches.
    """

    candidates: tuple[Candidate, ...]
    turns: int
    footprint: int | None = None


@dataclass(frozen=True)
class Device:
    """What candidates are built for.

    Attributes
    ----------
    target : str
        As `resolve_target` takes it.
    machine : Machine
    threads : int
        Of parallel loops; 1 for a GPU.
    """

    target: str
    machine: Machine
    threads: int = 1

    @property
    def on_gpu(self) -> bool:
        """Whether candidates run on a GPU."""
        return isinstance(self.machine, Gpu)

    @property
    def nominal_clock(self) -> float | None:
        """Cycles in a second as estimates for a GPU count them; ``None`` for a CPU, which tells its own."""
        return 1e9 * self.machine.clock if isinstance(self.machine, Gpu) else None


@dataclass(frozen=True)
class Outcome:
    """What came of a candidate: seconds of one call, or the reason why there are none."""

    seconds: float | None
    error: str | None = None
