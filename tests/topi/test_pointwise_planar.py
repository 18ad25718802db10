import numpy as np
import pytest
import torch
import tvm

from tvm_fastconv.topi.operators import operator_attrs
from tvm_fastconv.topi.pointwise_planar import (
    PointwiseKnobs,
    PointwiseProblem,
    pack_pointwise_weight,
    pointwise_planar,
    pointwise_planar_reference,
)

from ..close import assert_close
from .run_operator import each_isa, machine, run_primfunc

TOLERANCE = 1e-6  # sums of up to 64 float32 products in another order


@each_isa
@pytest.mark.parametrize(
    ("shape", "atoms"),
    [((1, 3, 9, 9), 3), ((2, 64, 14, 14), 64), ((1, 40, 7, 7), 33), ((1, 1, 4, 4), 1), ((3, 17, 5, 31), 7)],
)
def test_equals_pytorch(shape: tuple[int, int, int, int], atoms: int, isa: str) -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal(shape, np.float32)
    weight = rng.standard_normal((atoms, shape[1]), np.float32)
    want = torch.nn.functional.conv2d(
        torch.from_numpy(data), torch.from_numpy(weight)[:, :, None, None]
    ).numpy()
    assert_close(pointwise_planar_reference(data, weight), want, TOLERANCE)
    problem = PointwiseProblem(
        batch=shape[0], channels=shape[1], height=shape[2], width=shape[3], atoms=atoms
    )
    knobs = PointwiseKnobs.default(problem, machine(isa))
    assert knobs is not None
    func = pointwise_planar(shape, atoms, knobs, operator_attrs("pointwise_planar", problem, knobs))
    got = run_primfunc(func, [data, pack_pointwise_weight(weight, knobs)], list(want.shape), "float32", isa)
    assert_close(got, want, TOLERANCE)


def test_symbolic_batch() -> None:
    rng = np.random.default_rng(0)
    data, weight = rng.standard_normal((3, 8, 6, 6), np.float32), rng.standard_normal((5, 8), np.float32)
    problem = PointwiseProblem(channels=8, height=6, width=6, atoms=5)
    knobs = PointwiseKnobs.default(problem, machine("avx2"))
    assert knobs is not None
    attrs = operator_attrs("pointwise_planar", problem, knobs)
    func = pointwise_planar((tvm.tirx.Var("n", "int64"), 8, 6, 6), 5, knobs, attrs)
    got = run_primfunc(func, [data, pack_pointwise_weight(weight, knobs)], [3, 5, 6, 6], "float32", "avx2")
    assert_close(got, pointwise_planar_reference(data, weight), TOLERANCE)


def test_tiles_fit_the_registers() -> None:
    def default(height: int, width: int, atoms: int) -> PointwiseKnobs | None:
        problem = PointwiseProblem(channels=8, height=height, width=width, atoms=atoms)
        return PointwiseKnobs.default(problem, machine("avx512"))

    assert default(3, 5, 8) is None
    for side, atoms in ((56, 64), (7, 64), (14, 3)):
        knobs = default(side, side, atoms)
        assert knobs is not None
        assert knobs.atoms * knobs.vectors + knobs.vectors < 32
        assert knobs.pixels <= side * side
        assert knobs.atoms <= atoms
