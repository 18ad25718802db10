"""A second check that has nothing in common with the emulator: the same schedules as OpenCL C, on PoCL."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import tvm
from tvm import relax, te, tirx

from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.operators import Sample
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cuda.lookup_dense import GpuLookupDenseKnobs

from ..close import assert_close
from ..topi.operator_cases import CASES, assert_is_reference
from .attach import attach
from .barrier_cases import VARIANTS, Variant
from .emulate import call, compiled
from .kernel_library import EmulationError
from .networks import residual_network, settled
from .opencl import POCL, TARGET, obstacle

pytestmark = pytest.mark.slow

H100 = GPUS["h100"]


@pytest.fixture(autouse=True)
def _needs_pocl() -> None:
    """Not at import: whoever only collects tests need not load it."""
    if reason := obstacle():
        pytest.skip(reason)


ONLY_CUDA = {
    "bitserial_conv2d": "a tile of sums is a template of CUDA C++, which also calls binary mma",
    "bitpack": "a word is the ballot of a warp",
    "lookup_conv2d": "planes and lists come by cp.async, in functions of CUDA C++",
    "lookup_dense": "the lanes of a row add up by shuffles; where it has only one, it runs",
    "pointwise_planar": "both sides come by cp.async, in functions of CUDA C++",
    "tf32_conv2d": "a tile of sums is a template of CUDA C++, with cp.async and mma of TF32",
    "xnor_gemm": "packing and product are CUDA C++: ballots, cp.async, ldmatrix, binary mma",
    "xnor_gemm_packed": "the product is CUDA C++: cp.async, ldmatrix, binary mma",
}
"""Operators that cannot be OpenCL C, and why."""


def _defaults() -> dict[str, Variant]:
    """The cases of all operators that GPUs have, with the knobs that an H100 gets."""
    planner = Planner(H100)
    return {
        name: (op, problem, planner.planned(op, problem).knobs)
        for name, (op, problem) in CASES.items()
        if planner.has(op) and planner.plan(op, problem) is not None
    }


ONE_LANE = GpuLookupDenseKnobs(images=2, entries=1, pairs=4, warps=2)
EVERY = _defaults() | {f"barriers of {name}": variant for name, variant in VARIANTS.items()}
OPENCL = {name: variant for name, variant in EVERY.items() if variant[0] not in ONLY_CUDA} | {
    "barriers of lookup_dense, one lane": (*CASES["lookup_dense"], ONE_LANE)
}


@functools.cache
def _made(name: str) -> Sample:
    return build(*(OPENCL | EVERY)[name], H100)


def _run(name: str, source_edit: Callable[[str], str] | None = None) -> np.ndarray:
    made = _made(name)
    executable = compiled(made.func, TARGET)
    with attach(executable, source_edit=source_edit, engine=POCL):
        return call(executable["main"], made.arrays, made.result_shape, made.result_dtype)


@pytest.mark.parametrize("name", OPENCL)
def test_an_operator_equals_its_reference(name: str) -> None:
    """As closely as in the emulator, although PoCL contracts products and sums."""
    assert_is_reference(OPENCL[name][0], _made(name), _run(name))


@pytest.mark.parametrize("name", [name for name, (op, _, _) in _defaults().items() if op in ONLY_CUDA])
def test_nothing_is_left_out_that_could_run(name: str) -> None:
    with pytest.raises((tvm.error.InternalError, EmulationError)):
        _run(name)


@pytest.mark.parametrize("name", [name for name in OPENCL if name.startswith("barriers")])
def test_without_its_barriers_it_is_wrong(name: str) -> None:
    want = _made(name).reference()
    got = _run(name, lambda source: source.replace("barrier(CLK_LOCAL_MEM_FENCE);", ""))
    # Not by rounding: a thousand times the tolerance and more.
    assert not np.allclose(got, want, rtol=0, atol=2e-2 * np.abs(want).max())


def _sums(rows: int, terms: int) -> tirx.PrimFunc:
    x = te.placeholder((rows, terms), "float32", name="x")
    axis = te.reduce_axis((0, terms))
    sums = te.compute((rows,), lambda i: te.sum(x[i, axis], axis=axis), name="sums")
    return schedule_primfunc(te.create_prim_func([x, sums]), H100)


@pytest.mark.parametrize(("rows", "terms"), [(8, 100), (5, 63)])
def test_sums_of_a_warp_and_of_a_thread(rows: int, terms: int) -> None:
    x = np.random.default_rng(0).standard_normal((rows, terms), np.float32)
    executable = compiled(_sums(rows, terms), TARGET)
    with attach(executable, engine=POCL):
        got = call(executable["main"], [x], (rows,), "float32")
    assert_close(got, x.sum(1), 2e-6)  # sums of a hundred in another order


def _compiled_network(model: torch.nn.Module, images: torch.Tensor) -> relax.VMExecutable:
    """Scheduled for an H100, and only then a program of OpenCL."""
    gpu = tvm.target.Target({"kind": "cuda", "arch": "sm_90"}, host={"kind": "llvm"})
    planner = Planner(H100)
    passes = [*pipeline.graph_passes(planner), *pipeline.schedule_passes(gpu, H100), *pipeline.lower()]
    with TARGET:
        mod = tvm.transform.Sequential(passes)(import_model(model, images).mod)
        for var, func in mod.functions.items():
            if isinstance(func, tirx.PrimFunc):
                mod.update_func(var, func.with_attr("target", TARGET))
        return tvm.compile(mod, TARGET, relax_pipeline=None)


@torch.no_grad()
def test_a_network_equals_pytorch() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 20, 20)
    model = settled(residual_network(), images)
    executable = _compiled_network(model, images)
    with attach(executable, engine=POCL):
        got = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(images.numpy())).numpy()
    # Layers in another order of summation, through up to ten of which rounding grows.
    assert_close(got, model(images), 1e-5)
