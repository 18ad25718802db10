"""Run one operator of ours: TE compute, schedule, code, result."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import te

from tvm_fastconv.relay_passes import PASS_CONFIG
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.window import extents

TARGETS = {
    "avx512": {"kind": "llvm", "mcpu": "x86-64-v4", "mattr": ["-prefer-256-bit"]},
    "avx2": {"kind": "llvm", "mcpu": "x86-64-v3"},
    "sse4": {"kind": "llvm", "mcpu": "x86-64-v2"},
}


@functools.cache
def machine(isa: str) -> Machine:
    return Machine.of(tvm.target.Target(TARGETS[isa]))


def run_operator(
    compute: Callable[..., te.Tensor], arrays: list[np.ndarray], knobs: Any, op: str, isa: str, **kwargs: Any
) -> np.ndarray:
    """Schedule ``compute`` for ``isa``, run it on ``arrays`` and return its result, of which no byte was set before."""
    tensors = [te.placeholder(extents(*a.shape), str(a.dtype), name=f"arg{i}") for i, a in enumerate(arrays)]
    attrs = {"fastconv.op": op, "fastconv.knobs": knobs.to_json()}
    result = compute(*tensors, tile=knobs, attrs=attrs, **kwargs)
    func = schedule_primfunc(te.create_prim_func([*tensors, result]), machine(isa))
    with tvm.transform.PassContext(config=PASS_CONFIG):
        library = tvm.compile(func, target=tvm.target.Target(TARGETS[isa]))
    out = tvm.runtime.tensor(np.full([int(n) for n in result.shape], np.nan, str(result.dtype)))
    library(*(tvm.runtime.tensor(a) for a in arrays), out)
    return out.numpy()
