"""Which knobs an operator runs with, and what that costs by estimate: the one place that decides it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .cycles import Cycles
from .knobs import KnobSet
from .machine import Machine
from .operators import operator_names, operator_of
from .problem import Problem

log = logging.getLogger(__name__)

K = TypeVar("K", bound=KnobSet)


@dataclass(frozen=True)
class Measured:
    """What tuning knows of a problem.

    Attributes
    ----------
    knobs : str
        The fastest, as JSON.
    cycles : float, optional
        Theirs, where operators can be compared by them.
    ratio : float, optional
        How many times faster than the default they are.
    """

    knobs: str
    cycles: float | None
    ratio: float | None = None


Records = Mapping[tuple[str, str], Measured]
"""(operator, `Problem.key`) → what was measured on a machine."""


@dataclass(frozen=True)
class Plan(Generic[K]):
    """How an operator is to run.

    Attributes
    ----------
    op : str
    problem : Problem
    knobs : KnobSet
    cycles : Cycles
        Of one core, for the whole problem: by estimate, and measured where ``source`` is a record.
    source : str
        ``"record"``, ``"default"`` or ``"asked"``: who chose the knobs.
    gain : float, optional
        How many times faster than the default a record says they are.
    """

    op: str
    problem: Any
    knobs: K
    cycles: Cycles
    source: str
    gain: float | None = None


class Planner:
    """Answers what runs how on one machine.

    Parameters
    ----------
    machine : Machine
    records : mapping, optional
        Knobs that tuning has found; those of another version of an operator, which are no longer legal, count for
        nothing.
    allow_tf32 : bool
        Whether dense layers may run with factors rounded to TF32; only of a `Gpu` that has it.
    """

    def __init__(self, machine: Machine, records: Records | None = None, allow_tf32: bool = False) -> None:
        self.machine, self.records, self.allow_tf32 = machine, records or {}, allow_tf32
        self._plans: dict[tuple[str, Problem], Plan[Any] | None] = {}

    def has(self, op: str) -> bool:
        """Whether this kind of machine has the operator at all."""
        return op in operator_names(self.machine.kind)

    def plan(self, op: str, problem: Problem) -> Plan[Any] | None:
        """The recorded knobs, else those of the least estimated cycles; ``None`` where the operator has none."""
        if (op, problem) not in self._plans:
            self._plans[op, problem] = self._recorded(op, problem) or self._default(op, problem)
        return self._plans[op, problem]

    def planned(self, op: str, problem: Problem) -> Plan[Any]:
        """`plan` for an operator that takes every problem.

        Raises
        ------
        LookupError
            It does not take this one.
        """
        found = self.plan(op, problem)
        if found is None:
            raise LookupError(f"{op} has no knobs for {problem.key} on {self.machine.name}")
        return found

    def asked(self, op: str, problem: Problem, knobs: K) -> Plan[K]:
        """With ``knobs`` that somebody chose."""
        return self._estimated(op, problem, knobs, "asked")

    @property
    def questions(self) -> tuple[tuple[str, Problem], ...]:
        """Every operator and problem that a plan was found for, whether or not it was chosen over others."""
        return tuple(question for question, plan in self._plans.items() if plan is not None)

    def _recorded(self, op: str, problem: Problem) -> Plan[Any] | None:
        record = self.records.get((op, problem.key))
        if record is None:
            return None
        kind = operator_of(self.machine.kind, op).knobs
        try:
            knobs = kind.from_json(record.knobs)
        except ValueError as error:
            log.warning("a record of %s is passed over: %s", op, error)
            return None
        if knobs not in kind.space(problem, self.machine):
            log.warning("a record of %s is passed over: %s is not legal here", op, record.knobs)
            return None
        cycles = Cycles(knobs.cycles(problem, self.machine), record.cycles)
        return Plan(op, problem, knobs, cycles, "record", record.ratio)

    def _default(self, op: str, problem: Problem) -> Plan[Any] | None:
        knobs = operator_of(self.machine.kind, op).knobs.default(problem, self.machine)
        return None if knobs is None else self._estimated(op, problem, knobs, "default")

    def _estimated(self, op: str, problem: Problem, knobs: K, source: str) -> Plan[K]:
        return Plan(op, problem, knobs, Cycles(knobs.cycles(problem, self.machine)), source)
