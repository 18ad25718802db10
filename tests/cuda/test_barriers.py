"""Every barrier is needed: without one, the result is wrong, depends on the order of threads, or is an error."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
from tvm import tirx

from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.operators import Sample
from tvm_fastconv.topi.planner import Planner

from ..topi.operator_cases import CASES, random_knobs
from .barrier_cases import VARIANTS
from .emulate import ORDERS, EmulationError, compiled, run_emulated

H100 = GPUS["h100"]

BARRIER = re.compile(r"__syncthreads\(\);")


@functools.cache
def _made(name: str) -> Sample:
    op, problem, knobs = VARIANTS[name]
    return build(op, problem, knobs, H100)


def _without(source: str, number: int) -> str:
    """``source`` less one of its barriers."""
    found = list(BARRIER.finditer(source))[number]
    return source[: found.start()] + source[found.end() :]


def _barriers(func: tirx.PrimFunc) -> int:
    return len(BARRIER.findall(compiled(func).mod.imports[0].inspect_source()))


def _goes_unnoticed(name: str, number: int) -> bool:
    made, want = _made(name), _made(name).reference()
    for order in ORDERS:
        try:
            got = run_emulated(
                made.func, list(made.arrays), list(made.result_shape), made.result_dtype, order,
                lambda source: _without(source, number),
            )  # fmt: skip
        except EmulationError:
            return False
        # Float32 sums of up to 216 terms in another order; Winograd's transforms multiply their rounding.
        if not np.allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max()):
            return False
    return True


@pytest.mark.parametrize("name", VARIANTS)
def test_no_barrier_can_be_left_out(name: str) -> None:
    barriers = _barriers(_made(name).func)
    assert barriers
    assert not [number for number in range(barriers) if _goes_unnoticed(name, number)]


def _forms(name: str) -> set[tuple[str, int]]:
    """The operator of a case, and how many barriers its code has, with its default knobs and with others."""
    op, problem = CASES[name]
    planner = Planner(H100)
    if not planner.has(op) or planner.plan(op, problem) is None:
        return set()
    several = (planner.planned(op, problem).knobs, *random_knobs(op, problem, H100, 1))
    counts = {_barriers(build(op, problem, knobs, H100).func) for knobs in several}
    return {(op, count) for count in counts if count}


def test_whatever_has_a_barrier_is_among_them() -> None:
    proven = {(op, _barriers(_made(name).func)) for name, (op, _, _) in VARIANTS.items()}
    assert set().union(*map(_forms, CASES)) <= proven
