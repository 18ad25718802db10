import pytest

from tests.close import assert_close
from tests.cuda.emulate import TARGET, run_in_all_orders
from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.lookup_dense import LookupDenseProblem
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.schedules.cuda.lookup_dense import GpuLookupDenseKnobs

MACHINE = machine_of(TARGET)

# Sums of up to a hundred float32 products in another order.
TOLERANCE = 2e-6


def _problem(batch: int, inputs: int, outputs: int, density: float) -> LookupDenseProblem:
    nonzeros = round(density * inputs * outputs)
    return LookupDenseProblem(batch=batch, inputs=inputs, outputs=outputs, nonzeros=nonzeros)


def _check(problem: LookupDenseProblem, knobs: GpuLookupDenseKnobs) -> None:
    sample = build("lookup_dense", problem, knobs, MACHINE)
    got = run_in_all_orders(sample.func, sample.arrays, sample.result_shape, sample.result_dtype)
    assert_close(got, sample.reference(), TOLERANCE)


@pytest.mark.parametrize("batch", [1, 3, 32, 37])
@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
def test_default_knobs_equal_the_reference(batch: int, density: float) -> None:
    problem = _problem(batch, 101, 45, density)
    _check(problem, GpuLookupDenseKnobs.default(problem, MACHINE))


@pytest.mark.parametrize("lanes", [(1, 1), (1, 32), (2, 4), (8, 4), (16, 1), (32, 1)])
@pytest.mark.parametrize("pairs", [1, 4])
def test_any_share_of_the_lanes_is_right(lanes: tuple[int, int], pairs: int) -> None:
    images, entries = lanes
    knobs = GpuLookupDenseKnobs(images=images, entries=entries, pairs=pairs, warps=2)
    _check(_problem(5, 70, 33, 0.2), knobs)
