"""The operators of `operator_cases` that run on GPUs, as CUDA source."""

from __future__ import annotations

import tvm

from tvm_fastconv.artifact.fatbin import cuda_source
from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.gpu import GPUS, Gpu
from tvm_fastconv.topi.planner import Planner

from ..topi.operator_cases import CASES

ON_GPUS = {
    name: case for name, case in CASES.items() if Planner(GPUS["h100"]).has(case[0])
    and Planner(GPUS["h100"]).plan(*case) is not None
}  # fmt: skip


def source_of(name: str, row: Gpu) -> str:
    """CUDA source of a case, with the knobs that the planner chooses for a GPU."""
    op, problem = CASES[name]
    func = build(op, problem, Planner(row).planned(op, problem).knobs, row).func
    return cuda_source(
        func, tvm.target.Target({"kind": "cuda", "arch": f"sm_{row.arch}"}, host={"kind": "llvm"})
    )
