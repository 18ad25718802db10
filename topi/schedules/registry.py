"""Which template lays out which operator, for which kind of target; what is written as loops has a body instead.

What is none of our operators goes to the kind's generic schedule. All are registered where they are written.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ..knobs import KnobSet
from ..machine import Machine

Knobs = TypeVar("Knobs", bound=KnobSet)


@dataclass(frozen=True)
class Site:
    """One of our operators in a function that is being scheduled.

    Attributes
    ----------
    anchor : SBlockRV
        The block that computes what the operator is named after.
    last : SBlockRV
        The block behind all epilogues, which stores the result; ``anchor`` itself where there is none.
    stages : dict
        The blocks that the operator's template places itself, by name.
    """

    sch: Schedule
    anchor: SBlockRV
    last: SBlockRV
    stages: dict[str, SBlockRV]
    machine: Machine

    @property
    def op(self) -> str:
        """The operator's name."""
        return str(self.sch.get(self.anchor).annotations["fastconv.op"])

    def knobs(self, kind: type[Knobs]) -> Knobs:
        """The operator's knobs."""
        return kind.from_json(str(self.sch.get(self.anchor).annotations["fastconv.knobs"]))


@dataclass(frozen=True)
class Template:
    """How an operator is laid out.

    Attributes
    ----------
    schedule : callable
        Lays out a function that holds this operator alone. Returns the outermost loop, whose steps are parallel tasks,
        if operators in front of this one can be computed under it.
    place : callable, optional
        The same where ``site.last`` stands under the given loop already, for the rows that its reader needs there.
    """

    schedule: Callable[[Site], LoopRV | None]
    place: Callable[[Site, LoopRV], None] | None = None


def leave(_site: Site) -> None:
    """Of operators whose loops are written out already."""


_TEMPLATES: dict[tuple[str, str], Template] = {}


def register(kind: str, operators: Iterable[str], template: Template) -> None:
    """Lay out ``operators`` by ``template`` for targets of ``kind`` (``"llvm"``)."""
    for name in operators:
        if (kind, name) in _TEMPLATES:
            raise ValueError(f"operator {name} has a template for {kind} already")
        _TEMPLATES[kind, name] = template


def template_of(kind: str, operator: str) -> Template:
    """The template of an operator.

    Raises
    ------
    LookupError
        There is none.
    """
    if (kind, operator) not in _TEMPLATES:
        raise LookupError(f"operator {operator} has no template for targets of kind {kind}")
    return _TEMPLATES[kind, operator]


_BODIES: dict[tuple[str, str], Callable[..., tirx.PrimFunc]] = {}


def register_body(kind: str, operator: str, body: Callable[..., tirx.PrimFunc]) -> None:
    """Have ``body`` make the whole function of ``operator`` for targets of ``kind``: one that is written as loops."""
    if (kind, operator) in _BODIES:
        raise ValueError(f"operator {operator} has a body for {kind} already")
    _BODIES[kind, operator] = body


def body_of(kind: str, operator: str) -> Callable[..., tirx.PrimFunc]:
    """What makes the function of an operator that is written as loops.

    Raises
    ------
    LookupError
        Nothing does.
    """
    if (kind, operator) not in _BODIES:
        raise LookupError(f"operator {operator} has no body for targets of kind {kind}")
    return _BODIES[kind, operator]


Whole = Callable[[Schedule, Machine], None]
"""Lays out a function."""

_CHAINS: dict[str, Whole] = {}


def register_chain(kind: str, schedule: Whole) -> None:
    """Lay out by ``schedule`` functions of several operators, for targets of ``kind``."""
    if kind in _CHAINS:
        raise ValueError(f"{kind} has a schedule of chains already")
    _CHAINS[kind] = schedule


def chain_of(kind: str) -> Whole:
    """What lays out functions of several operators.

    Raises
    ------
    LookupError
        Nothing does.
    """
    if kind not in _CHAINS:
        raise LookupError(f"there is no schedule of chains for targets of kind {kind}")
    return _CHAINS[kind]


_GENERIC: dict[str, Whole] = {}


def register_generic(kind: str, schedule: Whole) -> None:
    """Lay out by ``schedule`` whatever no template has touched, for targets of ``kind``."""
    if kind in _GENERIC:
        raise ValueError(f"{kind} has a generic schedule already")
    _GENERIC[kind] = schedule


def generic_of(kind: str) -> Whole:
    """What lays out whatever no template has touched.

    Raises
    ------
    LookupError
        Nothing does.
    """
    if kind not in _GENERIC:
        raise LookupError(f"there is no generic schedule for targets of kind {kind}")
    return _GENERIC[kind]
