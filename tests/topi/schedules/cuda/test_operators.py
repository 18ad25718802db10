"""Every operator alone on a GPU: its CUDA source, executed on the CPU in three orders of threads."""

import pytest

from tvm_fastconv.topi import operators
from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.gpu import GPUS, Gpu
from tvm_fastconv.topi.knobs import KnobSet
from tvm_fastconv.topi.operators import operator_of
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.problem import Problem

from ....cuda.emulate import run_in_all_orders
from ...operator_cases import CASES, assert_is_reference, random_knobs

H100 = GPUS["h100"]

ON_GPUS = {
    name: (op, problem)
    for name, (op, problem) in CASES.items()
    if op in operators.operator_names("cuda") and Planner(H100).plan(op, problem) is not None
}
"""Convolutions in groups are those of `grouped_conv2d` alone, and not every chain is one here."""

WITHOUT = {"bitpack_planar", "int8_conv2d", "transpose"}
"""Operators that only CPUs have."""


def test_a_gpu_has_every_operator_but_three() -> None:
    assert {op for op, _ in CASES.values()} - {op for op, _ in ON_GPUS.values()} == WITHOUT


def _check(op: str, problem: Problem, knobs: KnobSet, gpu: Gpu = H100) -> None:
    made = build(op, problem, knobs, gpu)
    got = run_in_all_orders(made.func, list(made.arrays), list(made.result_shape), made.result_dtype)
    assert_is_reference(op, made, got)


@pytest.mark.parametrize("name", ON_GPUS)
def test_the_default_equals_the_reference(name: str) -> None:
    op, problem = ON_GPUS[name]
    _check(op, problem, Planner(H100).planned(op, problem).knobs)


def _members(name: str) -> list[KnobSet]:
    op, problem = ON_GPUS[name]
    return random_knobs(op, problem, H100, 2)


@pytest.mark.parametrize(
    ("name", "knobs"),
    [pytest.param(name, k, id=f"{name}-{i}") for name in ON_GPUS for i, k in enumerate(_members(name))],
)
def test_any_knobs_equal_the_reference(name: str, knobs: KnobSet) -> None:
    op, problem = ON_GPUS[name]
    assert type(knobs).from_json(knobs.to_json()) == knobs
    _check(op, problem, knobs)


@pytest.mark.parametrize("name", ON_GPUS)
def test_the_default_is_of_the_space_on_every_gpu(name: str) -> None:
    op, problem = ON_GPUS[name]
    for gpu in GPUS.values():
        if op == "tf32_conv2d" and not gpu.has_tf32:
            assert Planner(gpu).plan(op, problem) is None
            continue
        knobs = Planner(gpu).planned(op, problem).knobs
        assert knobs in operator_of("cuda", op).knobs.space(problem, gpu), gpu.name
