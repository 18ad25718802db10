"""Machine code of every operator, by NVIDIA's compiler where it is installed: next to nothing spills."""

from __future__ import annotations

import pytest

from tvm_fastconv.artifact.cuda_compiler import compile_cuda, find_nvcc
from tvm_fastconv.topi.gpu import GPUS

from .operators import ON_GPUS, source_of

TRADED = 16
"""Bytes that ptxas gives up for another block on a multiprocessor: three planes of bits on an A100."""

MEASURED = ("t4", "a100", "h100")
"""GPUs of three generations, each with the knobs that the planner chooses for it."""


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_nvcc() is None, reason="needs nvcc: pip install tvm-fastconv[cuda], or a CUDA toolkit"
    ),
]


@pytest.mark.parametrize("gpu", MEASURED)
@pytest.mark.parametrize("name", ON_GPUS)
def test_next_to_nothing_spills(name: str, gpu: str) -> None:
    source = source_of(name, row := GPUS[gpu])
    kernels = compile_cuda(source, (row.arch,)).kernels
    assert len(kernels) == source.count("__global__") // 2 > 0  # declared and defined
    assert max(kernel.spill_stores for kernel in kernels) <= TRADED, kernels
