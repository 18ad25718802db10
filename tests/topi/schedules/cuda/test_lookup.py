import dataclasses
import random

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.close import assert_close
from tests.cuda.emulate import TARGET, run_in_all_orders
from tests.topi.test_lookup_conv2d import CASES, TOLERANCE
from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.gpu import Gpu
from tvm_fastconv.topi.lookup_conv2d import LookupProblem
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.schedules.cuda.lookup import GpuLookupKnobs

MACHINE = machine_of(TARGET)
assert isinstance(MACHINE, Gpu)


def _problem(name: str) -> LookupProblem:
    params, (n, c, h, w), density = CASES[name]
    weights = params.out_channels * c // params.groups * params.kernel[0] * params.kernel[1]
    nonzeros = round(density * weights)
    return LookupProblem(batch=n, height=h, width=w, channels=c, conv=params, nonzeros=nonzeros)


def _check(problem: LookupProblem, knobs: GpuLookupKnobs) -> None:
    sample = build("lookup_conv2d", problem, knobs, MACHINE)
    got = run_in_all_orders(sample.func, sample.arrays, sample.result_shape, sample.result_dtype)
    assert_close(got, sample.reference(), TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_default_knobs_equal_the_reference(name: str) -> None:
    problem = _problem(name)
    knobs = GpuLookupKnobs.default(problem, MACHINE)
    assert knobs is not None
    _check(problem, knobs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["3x3", "wide", "stride 4", "asymmetric", "dilated", "groups"])
def test_any_tile_is_right(name: str, seed: int) -> None:
    problem = dataclasses.replace(_problem(name), batch=3)
    space = list(GpuLookupKnobs.space(problem, MACHINE))
    small = [knobs for knobs in space if knobs.threads <= 256]
    _check(problem, random.Random(seed).choice(small))


def test_parts_of_rows_and_lists_that_are_longer_than_there_is_room() -> None:
    problem = dataclasses.replace(_problem("stride 4"), batch=2)
    for columns, listed in ((3, 100), (1, 1)):
        knobs = GpuLookupKnobs(
            pixels=1, filters=4, warps=4, beside=1, block=2, columns=columns, listed=listed
        )  # fmt: skip
        _check(problem, knobs)


def test_an_image_ends_within_a_tile() -> None:
    params = Conv2dParams(kernel=(3, 3), out_channels=6, padding=(1, 1, 1, 1))
    problem = LookupProblem(batch=7, height=3, width=3, channels=5, conv=params, nonzeros=60)
    _check(problem, GpuLookupKnobs(pixels=2, filters=2, warps=4, beside=1, block=5, columns=1, listed=64))


def _fused(
    func: tvm.tirx.PrimFunc, arrays: tuple[np.ndarray, ...], batch: tvm.tirx.Var | int
) -> tvm.tirx.PrimFunc:
    """``func`` with a bias for each plane, ReLU and another value added, as the pipeline fuses them behind it."""
    builder = relax.BlockBuilder()
    types = [relax.TensorType(param.shape, param.dtype) for param in func.params]
    planes = list(func.params[-1].shape)
    inputs = [relax.Var(f"arg{i}", type_) for i, type_ in enumerate(types[:-1])]
    bias = relax.Var("bias", relax.TensorType((1, int(planes[1]), 1, 1), "float32"))
    other = relax.Var("other", types[-1])
    with builder.function("main", [*inputs, bias, other]), builder.dataflow():
        var = builder.add_func(func.with_attr("op_pattern", 4), "sums")
        sums = builder.emit(relax.call_tir(var, inputs, out_ty=types[-1]))
        added = builder.emit(relax.op.add(sums, bias))
        active = builder.emit(relax.op.nn.relu(added))
        out = builder.emit_output(relax.op.add(active, other))
        builder.emit_func_output(out)
    return builder.get()
