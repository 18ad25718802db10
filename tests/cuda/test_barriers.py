"""Every barrier is needed: without one, the result is wrong, depends on the order of threads, or is an error."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.operators import Sample
from tvm_fastconv.topi.planner import Planner

from ..topi.operator_cases import CASES
from .emulate import ORDERS, EmulationError, compiled, run_emulated

H100 = GPUS["h100"]
UNNOTICED = {"xnor_gemm": [2]}
"""Barriers that the emulator does without: its warps go on by turns, and all have read before one writes."""

BARRIER = re.compile(r"__syncthreads\(\);")


@functools.cache
def _made(name: str) -> Sample:
    op, problem = CASES[name]
    return build(op, problem, Planner(H100).planned(op, problem).knobs, H100)


def _without(source: str, number: int) -> str:
    """``source`` less one of its barriers."""
    found = list(BARRIER.finditer(source))[number]
    return source[: found.start()] + source[found.end() :]


def _barriers(name: str) -> int:
    return len(BARRIER.findall(compiled(_made(name).func).mod.imports[0].inspect_source()))


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
        if not np.allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max()):
            return False
    return True


NAMES = (
    "conv2d",
    "dense",
    "winograd_conv2d",
    "lookup_conv2d",
    "pointwise_planar",
    "bitserial_conv2d",
    "xnor_gemm",
    "chain, stencils",
)


@pytest.mark.parametrize("name", NAMES)
def test_no_barrier_can_be_left_out(name: str) -> None:
    barriers = _barriers(name)
    assert barriers
    assert [number for number in range(barriers) if _goes_unnoticed(name, number)] == UNNOTICED.get(name, [])
