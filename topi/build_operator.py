"""One operator alone, from a problem and knobs: as a network holds it, on random data; and machine code of it."""

from dataclasses import replace

import numpy as np
import tvm
from tvm import tirx

from .knobs import KnobSet
from .machine import Machine
from .operators import Sample, operator_of
from .problem import Problem
from .schedules import schedule_primfunc
from .tir_pipeline import TIR_PIPELINE

PASS_CONFIG = {"tirx.enable_buffer_level_predication": True}
"""Tails of vectors become masked loads and stores instead of scalar loops (3 % of MobileNetV2)."""


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


def compiled(func: tirx.PrimFunc, target: tvm.target.Target) -> tvm.runtime.Executable:
    """Machine code of a scheduled function, which the library calls ``main``."""
    with tvm.transform.PassContext(opt_level=3, config=PASS_CONFIG):
        return tvm.compile(func.with_attr("global_symbol", "main"), target=target, tir_pipeline=TIR_PIPELINE)
