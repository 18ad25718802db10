"""Run one operator of ours: TE compute, schedule, code, result."""

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import te

from tvm_fastconv.autotune.check_answer import unset
from tvm_fastconv.runtime.cpu import missing_features
from tvm_fastconv.targets import NATIVE_CPU, cpu_features, resolve_target
from tvm_fastconv.topi.build_operator import compiled
from tvm_fastconv.topi.knobs import KnobSet
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.window import extents

TARGETS = {
    isa: resolve_target(f"x86_64-linux-gnu -mcpu={cpu}")
    for isa, cpu in {
        "vnni": "cascadelake",
        "avx512": "x86-64-v4",
        "avx2": "x86-64-v3",
        "sse4": "x86-64-v2",
    }.items()
} | {"native": resolve_target("native")}

each_isa = pytest.mark.parametrize(
    "isa",
    [pytest.param("native", marks=pytest.mark.native)]
    if os.environ.get(NATIVE_CPU)
    else ["avx512", "avx2", "sse4"],
)
"""One test for each width of vectors; where `native` is another CPU, one for that."""


@functools.cache
def machine(isa: str) -> Machine:
    return machine_of(TARGETS[isa])


def run_operator(
    compute: Callable[..., te.Tensor],
    arrays: list[np.ndarray],
    knobs: KnobSet,
    op: str,
    isa: str,
    **kwargs: Any,
) -> np.ndarray:
    """Schedule ``compute`` for ``isa``, run it on ``arrays`` and return its result, of which no byte was set before."""
    return run_compute(compute, arrays, knobs, op, isa, tile=knobs, **kwargs)


def run_compute(
    compute: Callable[..., te.Tensor],
    arrays: list[np.ndarray],
    knobs: KnobSet,
    op: str,
    isa: str,
    **kwargs: Any,
) -> np.ndarray:
    """The same for an operator whose tensor expression does not depend on its knobs."""
    tensors = [te.placeholder(extents(*a.shape), str(a.dtype), name=f"arg{i}") for i, a in enumerate(arrays)]
    attrs = {"fastconv.op": op, "fastconv.knobs": knobs.to_json()}
    result = compute(*tensors, attrs=attrs, **kwargs)
    func = schedule_primfunc(te.create_prim_func([*tensors, result]), machine(isa))
    return run_primfunc(func, arrays, [int(n) for n in result.shape], str(result.dtype), isa)


def skip_where_lacking(isa: str) -> None:
    """Skip the test on a CPU that cannot run code for ``isa``."""
    if missing := missing_features(cpu_features(TARGETS[isa])):
        pytest.skip(f"this CPU lacks {', '.join(missing)}")


def run_primfunc(
    func: tvm.tirx.PrimFunc, arrays: list[np.ndarray], shape: list[int], dtype: str, isa: str
) -> np.ndarray:
    """Compile ``func`` for ``isa``, run it on ``arrays`` and return its result, of ``shape``."""
    skip_where_lacking(isa)
    library = compiled(func, TARGETS[isa])
    out = tvm.runtime.tensor(unset(tuple(shape), dtype))
    library(*(tvm.runtime.tensor(a) for a in arrays), out)
    return out.numpy()
