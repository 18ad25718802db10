"""One operator alone, from a problem and knobs: as a network holds it, on random data."""

from dataclasses import replace

import numpy as np

from .knobs import KnobSet
from .machine import Machine
from .operators import Sample, operator_of
from .problem import Problem
from .schedules import schedule_primfunc


def build(name: str, problem: Problem, knobs: KnobSet, machine: Machine, seed: int = 0) -> Sample:
    """Make one operator alone, scheduled for ``machine``.

    Raises
    ------
    LookupError
        There is no operator ``name``, or it has no knobs or no template for this kind of machine.
    """
    made = operator_of(machine.kind, name).make(problem, knobs, machine, np.random.default_rng(seed))
    attrs = made.func.attrs
    if attrs is not None and attrs.get("tirx.is_scheduled"):
        return made
    return replace(made, func=schedule_primfunc(made.func, machine))
