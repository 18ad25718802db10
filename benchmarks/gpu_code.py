"""What the machine code of an operator for a GPU is: registers, shared memory, spills, occupancy, its inner loop.

Kernels are compiled by nvcc and disassembled by ``cuobjdump``; how they are launched comes from TVM's own host code,
which runs on the CPU while the kernels do not.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from typing import Any

import tvm

from tests.cuda.emulate import attach, compiled
from tests.cuda.kernel_library import Launch
from tvm_fastconv.artifact.cuda_compiler import Nvcc
from tvm_fastconv.artifact.machine_code import KernelResources
from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.gpu import GPUS, Gpu
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.problem import Problem

from .cuobjdump import disassembled
from .gpu_occupancy import occupancy
from .sass_loops import ARITHMETIC, hottest, mix, read

ROWS = {"t4": (75,), "a100": (80,), "rtx3090": (86,), "rtx4090": (89,), "h100": (90, 100)}
"""GPU whose knobs the planner chooses to the architectures compiled for; none of sm_100 has a row yet."""

PRODUCTS = ("conv2d", "winograd_conv2d", "dense", "pointwise_planar")
"""Operators whose inner loop is to be `SHARE` multiply-adds and wide loads."""
SHARE = 0.75

BINARY = ("bitserial_conv2d", "xnor_gemm_packed", "xnor_gemm")

Row = dict[str, Any]


def nvcc_version(path: str) -> str:
    """For example 13.5.37."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\bV(\d+\.\d+\.\d+)", said)
    return found[1] if found else said


def code_of(nvcc: Nvcc, op: str, problem: Problem, gpu: str, sass: bool = True) -> dict[str, Row]:
    """Architecture, ``sm_90``, to the knobs, the kernels and, with ``sass``, what is remarkable about them.

    Empty where the GPU has no such operator.
    """
    row = GPUS[gpu]
    if (plan := Planner(row).plan(op, problem)) is None:
        return {}
    knobs = plan.knobs
    made = build(op, problem, knobs, row)
    executable = compiled(made.func)
    source = executable.mod.imports[0].inspect_source()
    inputs = [tvm.runtime.empty(array.shape, array.dtype.name) for array in made.arrays]
    with attach(executable, order=None) as session:
        executable["main"](*inputs, tvm.runtime.empty(made.result_shape, made.result_dtype))
    code = nvcc.compile(source, ROWS[gpu])
    lines = {(arch, name): lines for arch, name, lines in disassembled(code.fatbin)} if sass else {}
    found = {}
    for arch in ROWS[gpu]:
        kernels = [
            _resources(row, resources, launch) | (_loop(lines[arch, launch.name]) if sass else {})
            for launch in session.launches
            for resources in code.kernels
            if (resources.name, resources.arch) == (launch.name, arch)
        ]
        noted = {"remarks": remarks(op, kernels)} if sass else {}
        found[f"sm_{arch}"] = {"knobs": str(knobs), "kernels": kernels} | noted
    return found


def _resources(row: Gpu, resources: KernelResources, launch: Launch) -> Row:
    threads = launch.block[0] * launch.block[1] * launch.block[2]
    shared = resources.shared_bytes + launch.shared_bytes
    return {
        "name": resources.name,
        "registers": resources.registers,
        "static_bytes": resources.shared_bytes,
        "dynamic_bytes": launch.shared_bytes,
        "spill_stores": resources.spill_stores,
        "spill_loads": resources.spill_loads,
        "threads": threads,
        "occupancy": round(occupancy(row, threads, resources.registers, shared, resources.arch), 3),
    }


def _loop(lines: Sequence[str]) -> Row:
    loop, is_loop = hottest(read(lines))
    counts = mix(loop)
    return {
        "loop": is_loop,
        "instructions": len(loop),
        "ffma_share": round(counts.get("FFMA", 0) / len(loop), 3),
        "mix": counts,
    }


def hottest_kernel(kernels: Sequence[Row]) -> Row:
    """The one with the most arithmetic in its inner loop, calls of what an architecture emulates included."""
    kinds = (*ARITHMETIC, "CALL")
    return max(kernels, key=lambda kernel: sum(kernel["mix"].get(kind, 0) for kind in kinds))


def remarks(op: str, kernels: Sequence[Row]) -> list[str]:
    """What is not as it should be."""
    main = hottest_kernel(kernels)
    said = [f"{k['name']} spills {k['spill_stores']} bytes" for k in kernels if k["spill_stores"]]
    if op in PRODUCTS and main["ffma_share"] < SHARE:
        said.append(f"FFMA are {main['ffma_share']:.0%} of the inner loop")
    said += [
        f"{count} {kind} in the inner loop"
        for kind, count in main["mix"].items()
        if kind in ("LDS.32", "LDS.64", "LDG.32", "LDG.64", "LDL.32", "STL.32")
    ]
    if op in BINARY and not any(kind in main["mix"] for kind in ("POPC", "BMMA")):
        said.append("no POPC, no BMMA: products of bits are emulated")
    return said
