"""A window over each channel and the product behind it as one kernel of a GPU: any shape, any knobs, any order."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from tvm import te, tirx

from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.chain import ChainProblem
from tvm_fastconv.topi.conv2d import ConvProblem, conv2d, conv2d_reference, pack_weight
from tvm_fastconv.topi.depthwise_conv2d import DepthwiseProblem, depthwise_conv2d, pack_depthwise_weight
from tvm_fastconv.topi.fixed_stencil_conv2d import StencilProblem
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.operators import operator_attrs
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cuda.chain_knobs import GpuChainKnobs

from ....close import assert_close
from ....cuda.emulate import launches, run_in_all_orders
from ...operator_cases import KERNELS, conv

H100 = GPUS["h100"]


def _chain(first: type, channels: int, outputs: int, **more: Any) -> ChainProblem:
    """``first`` on planes of 9 × 11, then a 1×1 convolution to ``outputs`` channels."""
    fields = {name: more.pop(name) for name in ("kernels", "kernel_major") if name in more}
    batch, multiplier, size = more.pop("batch", 1), more.pop("multiplier", 1), more.pop("size", (9, 11))
    multiplier = len(fields["kernels"]) if "kernels" in fields else multiplier
    params = conv(channels * multiplier, groups=channels, **more)
    stage = first(batch=batch, height=size[0], width=size[1], channels=channels, conv=params, **fields)
    height, width = stage.output_size
    last = ConvProblem(
        batch=batch, height=height, width=width, channels=channels * multiplier, conv=conv(outputs, 1)
    )
    return ChainProblem(batch=batch, stages=(stage, last))


PROBLEMS = {
    "depthwise": _chain(DepthwiseProblem, 16, 40, batch=2),
    "tails of outputs": _chain(DepthwiseProblem, 20, 37),
    "stride, dilation, sides": _chain(
        DepthwiseProblem, 16, 64, batch=3, stride=(2, 1), padding=(0, 2, 1, 3), dilation=(1, 2)
    ),
    "a plane of 7": _chain(DepthwiseProblem, 32, 48, size=(7, 7)),
    "one tap with gaps": _chain(DepthwiseProblem, 8, 32, kernel=1, stride=(2, 2), padding=(0, 0, 0, 0)),
    "a kernel of 5": _chain(DepthwiseProblem, 8, 32, kernel=5),
    "stencils": _chain(StencilProblem, 16, 24, batch=2, kernels=KERNELS),
    "stencils with strides": _chain(StencilProblem, 8, 70, kernels=KERNELS, stride=(2, 2)),
    "kernels of each channel": _chain(DepthwiseProblem, 8, 24, multiplier=3, kernel_major=True),
}

MEMBERS = 3
"""Random knobs of each problem."""


def _check(problem: ChainProblem, knobs: GpuChainKnobs) -> None:
    made = build("chain", problem, knobs, H100)
    got = run_in_all_orders(made.func, made.arrays, made.result_shape, made.result_dtype)
    assert_close(
        got, made.reference(), 2e-6
    )  # float32 sums of up to 80 terms, each one of 9, in another order


def _default(problem: ChainProblem) -> GpuChainKnobs:
    knobs = GpuChainKnobs.default(problem, H100)
    assert knobs is not None
    return knobs


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_default_equals_the_reference(name: str) -> None:
    _check(PROBLEMS[name], _default(PROBLEMS[name]))


def _members(name: str) -> list[GpuChainKnobs]:
    space = list(GpuChainKnobs.space(PROBLEMS[name], H100))
    return random.Random(name).sample(space, min(MEMBERS, len(space)))


@pytest.mark.parametrize(
    ("name", "knobs"),
    [pytest.param(name, k, id=f"{name}-{i}") for name in PROBLEMS for i, k in enumerate(_members(name))],
)
def test_any_knobs_equal_the_reference(name: str, knobs: GpuChainKnobs) -> None:
    assert GpuChainKnobs.from_json(knobs.to_json()) == knobs
    _check(PROBLEMS[name], knobs)


def test_it_is_one_kernel_of_the_threads_and_shared_memory_that_its_knobs_say() -> None:
    problem = PROBLEMS["stencils"]
    knobs = _default(problem)
    (launch,) = launches(build("chain", problem, knobs, H100).func)
    assert launch.block == (knobs.threads, 1, 1)
    assert knobs.shared_bytes(len(KERNELS)) <= 48 * 1024


def test_the_batch_may_be_symbolic_and_a_residual_is_read_behind() -> None:
    problem = _chain(DepthwiseProblem, 16, 40)
    first, last = problem.stages
    knobs = _default(problem)
    n = tirx.Var("n", "int64")
    shapes = [(n, 9, 11, 16), (3, 3, 16), (n, 9, 11, 40)]
    data, taps, other = (te.placeholder(s, "float32", name=f"a{i}") for i, s in enumerate(shapes))
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((16, 1, 3, 3)).astype("float32")
    matrix = rng.standard_normal((40, 16, 1, 1)).astype("float32")
    packed = pack_weight(matrix, knobs.panel)
    weight = te.placeholder(packed.shape, "float32", name="weight")
    between = depthwise_conv2d(
        data, taps, first.conv, knobs, operator_attrs("depthwise_conv2d", first, knobs)
    )
    six, zero = tirx.const(6.0, "float32"), tirx.const(0.0, "float32")
    clipped = te.compute(
        between.shape, lambda *at: tirx.min(tirx.max(between(*at), zero), six), name="clipped"
    )
    sums = conv2d(clipped, weight, last.conv, knobs, operator_attrs("conv2d", last, knobs))
    behind = te.compute(sums.shape, lambda *at: sums(*at) + other(*at), name="behind")
    func = schedule_primfunc(te.create_prim_func([data, taps, weight, other, behind]), H100)
    for batch in (1, 3):
        x = rng.standard_normal((batch, 9, 11, 16)).astype("float32")
        y = rng.standard_normal((batch, 9, 11, 40)).astype("float32")
        got = run_in_all_orders(func, (x, pack_depthwise_weight(kernel), packed, y), y.shape, "float32")
        want = conv2d_reference(np.clip(conv2d_reference(x, kernel, first.conv), 0, 6), matrix, last.conv) + y
        assert_close(got, want, 2e-6)  # float32 sums of 16 terms, each one of 9, in another order


def test_other_chains_are_left_to_their_operators() -> None:
    pointwise, wide = ConvProblem(height=9, width=11, channels=16, conv=conv(16, 1)), conv(16)
    dense = ConvProblem(height=9, width=11, channels=16, conv=wide)
    depthwise = _chain(DepthwiseProblem, 16, 16).stages[0]
    odd = _chain(DepthwiseProblem, 17, 16)
    for stages in ((pointwise, depthwise, pointwise), (depthwise, dense), (pointwise, pointwise), odd.stages):
        assert GpuChainKnobs.default(ChainProblem(stages=stages), H100) is None


def _both(channels: int, side: int, outputs: int) -> tuple[float, float]:
    """Cycles of a separable layer of batch 32 as one kernel, and as two."""
    problem = _chain(DepthwiseProblem, channels, outputs, batch=32, size=(side, side))
    planner, (first, last) = Planner(H100), problem.stages
    two = planner.planned("depthwise_conv2d", first).cycles + planner.planned("conv2d", last).cycles
    return planner.planned("chain", problem).cycles, two


def test_one_kernel_is_faster_by_estimate_where_memory_is_what_takes_long() -> None:
    one, two = _both(128, 56, 128)
    assert one < 0.9 * two


def test_it_is_not_where_the_product_is() -> None:
    one, two = _both(1024, 7, 1024)
    assert one > two
