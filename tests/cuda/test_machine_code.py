"""Machine code of every operator, by NVIDIA's compiler where it is installed: next to nothing spills."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import tvm

from tvm_fastconv.artifact.fatbin import NVCC_OPTIONS, find_nvcc, source_kept
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


def _report(source: str, arch: int, folder: Path) -> str:
    """What ptxas says of every kernel."""
    Path(folder, "kernels.cu").write_text(source)
    command = [
        "nvcc",
        "-cubin",
        f"-arch=sm_{arch}",
        "-Xptxas",
        "-v",
        *NVCC_OPTIONS,
        "kernels.cu",
        "-o",
        "kernels.cubin",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("gpu", MEASURED)
@pytest.mark.parametrize("name", ON_GPUS)
def test_next_to_nothing_spills(name: str, gpu: str, tmp_path: Path) -> None:
    (op, problem), row = CASES[name], GPUS[gpu]
    func = build(op, problem, Planner(row).planned(op, problem).knobs, row).func
    target = tvm.target.Target({"kind": "cuda", "arch": f"sm_{row.arch}"}, host={"kind": "llvm"})
    with source_kept():
        made = tvm.compile(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}), target=target)
    said = _report(made.mod.imports[0].inspect_source(), row.arch, tmp_path)
    spilled = [int(size) for size in re.findall(r"(\d+) bytes spill stores", said)]
    assert len(spilled) >= said.count("Compiling entry function") > 0
    assert max(spilled) <= TRADED, said
