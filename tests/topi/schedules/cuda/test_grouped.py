"""Convolutions of several groups on a GPU: any widths of groups, any knobs, any order of threads."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.grouped_conv2d import GroupedProblem
from tvm_fastconv.topi.schedules.cuda.grouped import GpuGroupedKnobs

from ....close import assert_close
from ....cuda.emulate import run_in_all_orders
from ...operator_cases import conv

H100 = GPUS["h100"]


def _grouped(inputs: int, outputs: int, kernel: int = 3, groups: int = 6, **more: Any) -> GroupedProblem:
    params = conv(outputs * groups, kernel, groups=groups, **more)
    return GroupedProblem(batch=2, height=7, width=9, channels=inputs * groups, conv=params)


PROBLEMS = {
    "4 of 4": _grouped(4, 4),
    "32 of 32": _grouped(32, 32, groups=2),
    "outputs in vectors of 2": _grouped(8, 6),
    "outputs one by one": _grouped(3, 5),
    "two outputs of one input": _grouped(1, 2),
    "one tap": _grouped(16, 8, 1),
    "a wide kernel": _grouped(2, 4, 9),
    "stride, dilation, sides": _grouped(4, 8, stride=(2, 1), padding=(0, 2, 1, 3), dilation=(1, 2)),
    "planes of channels": _grouped(4, 4, data_layout="NCHW"),
}


def _check(problem: GroupedProblem, knobs: GpuGroupedKnobs) -> None:
    made = build("grouped_conv2d", problem, knobs, H100)
    got = run_in_all_orders(made.func, made.arrays, made.result_shape, made.result_dtype)
    assert_close(got, made.reference(), 2e-6)  # float32 sums of up to 288 terms in another order


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_default_equals_the_reference(name: str) -> None:
    problem = PROBLEMS[name]
    knobs = GpuGroupedKnobs.default(problem, H100)
    assert problem.conv.out_channels % knobs.panel == 0
    _check(problem, knobs)


@pytest.mark.parametrize("name", PROBLEMS)
def test_any_knobs_equal_the_reference(name: str) -> None:
    space = list(GpuGroupedKnobs.space(PROBLEMS[name], H100))
    knobs = random.Random(name).choice(space)
    assert GpuGroupedKnobs.from_json(knobs.to_json()) == knobs
    _check(PROBLEMS[name], knobs)
