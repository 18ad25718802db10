"""Machine code of every operator, by NVIDIA's compiler where it is installed, against a table of it.

A change of a schedule or of what the planner chooses changes the table: ``python -m benchmarks.bench_gpu_code`` renews
it, ``--only NAME`` a part of it, with the version of nvcc that `constraints.txt` names.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest

from benchmarks.bench_gpu_code import CASES, PATH
from benchmarks.cuobjdump import find_cuobjdump
from benchmarks.gpu_code import BINARY, PRODUCTS, ROWS, SHARE, code_of, hottest_kernel, nvcc_version
from benchmarks.gpu_code_layers import LAYERS
from tvm_fastconv.artifact.cuda_compiler import Nvcc, find_nvcc

TRADED = 16
"""Bytes that ptxas gives up for another block on a multiprocessor."""

MEASURED = ("t4", "a100", "h100")
"""GPUs of three generations, each with the knobs that the planner chooses for it; the others are part of the table."""

SHOWN = (
    "conv2d 256 14x14, batch 1", "conv2d 64 56x56, batch 32", "winograd_conv2d 128 28x28, batch 32",
    "bitserial_conv2d 256 14x14, batch 32", "depthwise_conv2d 128 56x56, batch 32", "xnor_gemm_packed 4096",
    "lookup_conv2d 500 to 384 13x13, batch 32", "pointwise_planar 192 to 500 13x13, batch 32",
)  # fmt: skip
"""Layers whose instructions are always looked at; all are in the table."""

GOLDEN = json.loads(PATH.read_text())
NVCC = find_nvcc()
VERSION = nvcc_version(NVCC) if NVCC else None
SAME = GOLDEN["conditions"]["nvcc"] == VERSION

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NVCC is None, reason="needs nvcc: pip install tvm-fastconv[cuda], or a CUDA toolkit"),
]


def _pairs(names: Collection[str], usual: Collection[str]) -> list[Any]:
    def often(name: str, gpu: str) -> bool:
        return gpu in MEASURED and name in usual

    return [
        pytest.param(name, gpu, id=f"{name}-{gpu}", marks=() if often(name, gpu) else pytest.mark.table)
        for name in names
        for gpu in ROWS
    ]


@pytest.mark.parametrize(("name", "gpu"), _pairs(CASES, CASES.keys() - LAYERS.keys() | set(SHOWN)))
def test_resources_are_those_of_the_table(name: str, gpu: str) -> None:
    found = code_of(Nvcc(str(NVCC)), *CASES[name], gpu, sass=False)
    if not found:
        pytest.skip(f"a {gpu} has no {CASES[name][0]}")
    for arch, row in found.items():
        golden = GOLDEN["code"][name][arch]
        assert row["knobs"] == golden["knobs"], "the table is of other knobs: it has to be renewed"
        assert len(row["kernels"]) == len(golden["kernels"]) > 0
        for kernel, known in zip(row["kernels"], golden["kernels"], strict=True):
            assert kernel["spill_stores"] <= max(TRADED, known["spill_stores"]), (arch, kernel)
            for exact in ("name", "static_bytes", "dynamic_bytes", "threads"):
                assert kernel[exact] == known[exact], (arch, kernel)
            if SAME:
                assert kernel["registers"] <= known["registers"], (arch, kernel)
                assert kernel["occupancy"] >= known["occupancy"], (arch, kernel)


@pytest.mark.skipif(
    not SAME, reason=f"registers are of nvcc {GOLDEN['conditions']['nvcc']} in the table, this is {VERSION}"
)
def test_registers_are_compared() -> None:
    assert SAME


@pytest.mark.parametrize(("name", "gpu"), _pairs(LAYERS, SHOWN))
@pytest.mark.skipif(find_cuobjdump() is None, reason="needs cuobjdump: pip install tvm-fastconv[dev]")
def test_inner_loops_hold_the_intended_instructions(name: str, gpu: str) -> None:
    op, problem = LAYERS[name]
    for arch, row in code_of(Nvcc(str(NVCC)), op, problem, gpu).items():
        golden = GOLDEN["code"][name][arch]
        main, known = hottest_kernel(row["kernels"]), hottest_kernel(golden["kernels"])
        for kind in ("FFMA", "FFMA.reuse", "POPC", "BMMA", "HMMA", "LDS.128", "LDSM"):
            assert (kind in main["mix"]) == (kind in known["mix"]), (arch, main)
        if op in PRODUCTS:
            # Another version of nvcc works addresses out in some instructions more or less.
            assert main["ffma_share"] >= min(SHARE, known["ffma_share"]) - 0.02, (arch, main)
        if SAME:
            assert row["remarks"] == golden["remarks"], arch


@pytest.mark.parametrize("name", LAYERS)
def test_the_table_holds_what_was_intended(name: str) -> None:
    op, _ = LAYERS[name]
    for arch, row in GOLDEN["code"][name].items():
        main = hottest_kernel(row["kernels"])["mix"]
        assert not any(kernel["spill_stores"] for kernel in row["kernels"]), arch
        if op in PRODUCTS:
            assert main["LDS.128"] > 0
            assert main["FFMA.reuse"] > 0
        if op == "tf32_conv2d":
            assert main["HMMA"] > 0, arch
        elif op not in BINARY:
            assert main["FFMA"] > 0, arch
        elif arch != "sm_100":  # which has no such instruction, and functions that are called in its place
            assert main["POPC" if arch == "sm_75" else "BMMA"] > 0, arch
