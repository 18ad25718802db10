"""Machine code of every operator, by NVIDIA's compiler where it is installed: next to nothing spills."""

from __future__ import annotations

import pytest
import tvm

from tvm_fastconv.artifact.cuda_compiler import compile_cuda, find_nvcc
from tvm_fastconv.artifact.fatbin import cuda_source
from tvm_fastconv.errors import TargetError
from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.planner import Planner

from ..topi.operator_cases import CASES

TRADED = 16
"""Bytes that ptxas gives up for another block on a multiprocessor: three planes of bits on an A100."""

MEASURED = ("t4", "a100", "h100")
"""GPUs of three generations, each with the knobs that the planner chooses for it."""


def _nvcc() -> str | None:
    try:
        return find_nvcc()
    except TargetError:
        return None


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        _nvcc() is None, reason="needs nvcc: pip install tvm-fastconv[cuda], or a CUDA toolkit"
    ),
]

ON_GPUS = {
    name: case for name, case in CASES.items() if Planner(GPUS["h100"]).has(case[0])
    and Planner(GPUS["h100"]).plan(*case) is not None
}  # fmt: skip


@pytest.mark.parametrize("gpu", MEASURED)
@pytest.mark.parametrize("name", ON_GPUS)
def test_next_to_nothing_spills(name: str, gpu: str) -> None:
    (op, problem), row = CASES[name], GPUS[gpu]
    func = build(op, problem, Planner(row).planned(op, problem).knobs, row).func
    target = tvm.target.Target({"kind": "cuda", "arch": f"sm_{row.arch}"}, host={"kind": "llvm"})
    source = cuda_source(func, target)
    kernels = compile_cuda(source, (row.arch,)).kernels
    assert len(kernels) == source.count("__global__") // 2 > 0  # declared and defined
    assert max(kernel.spill_stores for kernel in kernels) <= TRADED, kernels
