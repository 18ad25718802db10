import pytest

from tests.close import assert_close
from tests.cuda.emulate import TARGET, run_in_all_orders
from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.pointwise_planar import PointwiseProblem
from tvm_fastconv.topi.schedules.cuda.pointwise_planar import GpuPointwiseKnobs

MACHINE = machine_of(TARGET)

# Sums of up to a hundred float32 products in another order.
TOLERANCE = 2e-6

PROBLEMS = {
    "odd plane": PointwiseProblem(batch=3, channels=19, height=5, width=7, atoms=37),
    "vectors": PointwiseProblem(batch=2, channels=33, height=4, width=6, atoms=20),
    "few channels": PointwiseProblem(batch=1, channels=3, height=16, width=24, atoms=3),
    "one pixel": PointwiseProblem(batch=5, channels=40, height=1, width=1, atoms=64),
}


def _check(problem: PointwiseProblem, knobs: GpuPointwiseKnobs) -> None:
    sample = build("pointwise_planar", problem, knobs, MACHINE)
    got = run_in_all_orders(sample.func, sample.arrays, sample.result_shape, sample.result_dtype)
    assert_close(got, sample.reference(), TOLERANCE)


@pytest.mark.parametrize("name", PROBLEMS)
def test_default_knobs_equal_the_reference(name: str) -> None:
    knobs = GpuPointwiseKnobs.default(PROBLEMS[name], MACHINE)
    assert knobs is not None
    _check(PROBLEMS[name], knobs)


KNOBS = [
    GpuPointwiseKnobs(atoms=16, pixels=32, depth=8, thread_atoms=4, thread_pixels=4, slices=4),
    GpuPointwiseKnobs(atoms=64, pixels=64, depth=4, thread_atoms=8, thread_pixels=4, slices=1),
    GpuPointwiseKnobs(atoms=32, pixels=128, depth=16, thread_atoms=8, thread_pixels=8, slices=2),
    GpuPointwiseKnobs(atoms=4, pixels=512, depth=4, thread_atoms=4, thread_pixels=8, slices=1),
]


@pytest.mark.parametrize("knobs", KNOBS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_any_tile_is_right(name: str, knobs: GpuPointwiseKnobs) -> None:
    _check(PROBLEMS[name], knobs)
