"""What slides a window over one channel, on a GPU: any shape, any knobs, any order of threads."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from tvm import te, tirx

from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.depthwise_conv2d import (
    DepthwiseProblem,
    depthwise_conv2d,
    depthwise_conv2d_reference,
    pack_depthwise_weight,
)
from tvm_fastconv.topi.fixed_stencil_conv2d import StencilProblem
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.operators import operator_attrs, operator_of
from tvm_fastconv.topi.pool2d import PoolProblem
from tvm_fastconv.topi.problem import Problem
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cuda.window import GpuWindowKnobs

from ....close import assert_close
from ....cuda.emulate import run_in_all_orders
from ...operator_cases import KERNELS, conv

H100 = GPUS["h100"]


def _depthwise(channels: int, kernel: int = 3, multiplier: int = 1, **more: Any) -> DepthwiseProblem:
    sizes = {name: more.pop(name) for name in ("batch", "height", "width", "kernel_major") if name in more}
    params = conv(channels * multiplier, kernel, groups=channels, **more)
    return DepthwiseProblem(**({"height": 9, "width": 11} | sizes), channels=channels, conv=params)


def _pool(channels: int, out: tuple[int, int], kind: str, **more: Any) -> PoolProblem:
    counted = more.pop("count_include_pad", False)
    return PoolProblem(
        height=9, width=11, out_size=out, window=conv(channels, **more), kind=kind, count_include_pad=counted
    )


def _stencils(channels: int, kernels: Any = KERNELS, **more: Any) -> StencilProblem:
    params = conv(len(kernels) * channels, len(kernels[0]), groups=channels, **more)
    return StencilProblem(batch=2, height=9, width=11, channels=channels, conv=params, kernels=kernels)


NO_PRODUCT = (((1.0, 2.0, 0.0), (0.0, 0.5, 0.0), (0.0, 3.0, -2.0)), KERNELS[0])
WIDE = (tuple(tuple(float(i * j % 3) for j in range(5)) for i in range(5)),)

PROBLEMS: dict[str, tuple[str, Problem]] = {
    "whole vectors": ("depthwise_conv2d", _depthwise(64, batch=2, height=14, width=14)),
    "vectors of 2": ("depthwise_conv2d", _depthwise(30, batch=2)),
    "scalars": ("depthwise_conv2d", _depthwise(67)),
    "more vectors than a block has threads": ("depthwise_conv2d", _depthwise(521, height=2, width=3)),
    "stride and dilation": (
        "depthwise_conv2d",
        _depthwise(24, stride=(2, 1), padding=(0, 2, 1, 3), dilation=(1, 2)),
    ),
    "gaps": ("depthwise_conv2d", _depthwise(24, 1, stride=(2, 3), padding=(0, 0, 0, 0))),
    "transposed": ("depthwise_conv2d", _depthwise(24, input_dilation=(2, 2), padding=(1, 1, 2, 2))),
    "cropped": ("depthwise_conv2d", _depthwise(24, padding=(-1, 1, 0, -2))),
    "kernel of 7": ("depthwise_conv2d", _depthwise(24, 7)),
    "kernel wider than registers": ("depthwise_conv2d", _depthwise(8, 27, height=30, width=31)),
    "multiplier": ("depthwise_conv2d", _depthwise(10, multiplier=3)),
    "kernel major": ("depthwise_conv2d", _depthwise(12, multiplier=5, kernel_major=True)),
    "max": ("max_pool2d", _pool(20, (5, 6), "max", stride=(2, 2))),
    "max, ceil": ("max_pool2d", _pool(20, (5, 6), "max", kernel=2, stride=(2, 2), padding=(0, 0, 0, 0))),
    "average": ("avg_pool2d", _pool(20, (5, 6), "avg", stride=(2, 2))),
    "average, padding counts": (
        "avg_pool2d",
        _pool(17, (5, 6), "avg", stride=(2, 2), count_include_pad=True),
    ),
    "average of the plane": ("avg_pool2d", _pool(20, (1, 1), "avg", kernel=9, padding=(0, 0, 0, -2))),
    "stencils": ("fixed_stencils", _stencils(24)),
    "stencils, scalars": ("fixed_stencils", _stencils(13, stride=(2, 1))),
    "stencils that are no products": ("fixed_stencils", _stencils(8, NO_PRODUCT, dilation=(2, 1))),
    "wide stencils": ("fixed_stencils", _stencils(8, WIDE)),
}

MEMBERS = 2
"""Random knobs of each problem."""


def _check(op: str, problem: Problem, knobs: GpuWindowKnobs) -> None:
    made = build(op, problem, knobs, H100)
    got = run_in_all_orders(made.func, made.arrays, made.result_shape, made.result_dtype)
    assert_close(got, made.reference(), 2e-6)  # float32 sums of up to 729 terms in another order


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_default_equals_the_reference(name: str) -> None:
    op, problem = PROBLEMS[name]
    knobs = operator_of("cuda", op).knobs.default(problem, H100)
    assert knobs is not None
    assert knobs in GpuWindowKnobs.space(problem, H100)
    _check(op, problem, knobs)


def _members(name: str) -> list[GpuWindowKnobs]:
    space = list(GpuWindowKnobs.space(PROBLEMS[name][1], H100))
    return random.Random(name).sample(space, min(MEMBERS, len(space)))


@pytest.mark.parametrize(
    ("name", "knobs"),
    [pytest.param(name, k, id=f"{name}-{i}") for name in PROBLEMS for i, k in enumerate(_members(name))],
)
def test_any_knobs_equal_the_reference(name: str, knobs: GpuWindowKnobs) -> None:
    assert GpuWindowKnobs.from_json(knobs.to_json()) == knobs
    assert knobs.threads <= 256
    _check(*PROBLEMS[name], knobs)


def test_the_batch_may_be_symbolic_and_a_residual_is_read_behind() -> None:
    problem = _depthwise(24)
    knobs = GpuWindowKnobs(lanes=4, tile_h=2, tile_w=4, patch_h=2, patch_w=2, vectors=6)
    n = tirx.Var("n", "int64")
    data = te.placeholder((n, 9, 11, 24), "float32", name="data")
    other = te.placeholder((n, 9, 11, 24), "float32", name="other")
    weight = te.placeholder((3, 3, 24), "float32", name="weight")
    attrs = operator_attrs("depthwise_conv2d", problem, knobs)
    sums = depthwise_conv2d(data, weight, problem.conv, knobs, attrs)
    six, zero = tirx.const(6.0, "float32"), tirx.const(0.0, "float32")
    behind = te.compute(
        sums.shape, lambda *at: tirx.min(tirx.max(sums(*at), zero), six) + other(*at), name="behind"
    )
    func = schedule_primfunc(te.create_prim_func([data, weight, other, behind]), H100)
    for batch in (1, 3):
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((2, batch, 9, 11, 24)).astype("float32")
        w = rng.standard_normal((24, 1, 3, 3)).astype("float32")
        got = run_in_all_orders(func, (x, pack_depthwise_weight(w), y), x.shape, "float32")
        want = np.clip(depthwise_conv2d_reference(x, w, problem.conv), 0, 6) + y
        assert_close(got, want, 2e-6)  # float32 sums of 9 terms


def test_a_small_batch_is_spread_over_all_multiprocessors() -> None:
    problem = DepthwiseProblem(height=14, width=14, channels=512, conv=conv(512, groups=512))
    knobs = GpuWindowKnobs.default(problem, H100)
    rows, columns = knobs.round_up(14, 14)
    blocks = (
        512 // (knobs.lanes * knobs.vectors) * rows * columns // (knobs.block_size[0] * knobs.block_size[1])
    )
    assert (
        blocks > H100.multiprocessors // 2
    )  # of those that lie in one wave, the ones whose threads do least


def test_a_large_batch_is_as_fast_as_memory_by_estimate() -> None:
    params = Conv2dParams(kernel=(3, 3), out_channels=128, groups=128, padding=(1, 1, 1, 1))
    problem = DepthwiseProblem(batch=32, height=56, width=56, channels=128, conv=params)
    cycles = GpuWindowKnobs.default(problem, H100).cycles(problem, H100)
    moved = 2 * 4 * 32 * 56 * 56 * 128
    assert cycles < 1.5 * moved / H100.device_bytes_per_cycle
