import math

import numpy as np
import pytest

from tvm_fastconv.topi.batch_matmul import batch_matmul, batch_matmul_reference
from tvm_fastconv.topi.dense import MatmulProblem
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs

from ..close import assert_close
from .run_operator import each_isa, machine, run_operator

RTOL = 2e-6  # float32 sums of up to 200 terms in another order, relative to the largest output


@each_isa
@pytest.mark.parametrize(
    ("lead", "m", "k", "o"),
    [((1,), 1, 17, 37), ((3,), 33, 64, 64), ((2, 3), 49, 32, 49), ((2,), 8, 200, 1), ((), 20, 16, 100)],
)
def test_equals_the_reference(lead: tuple[int, ...], m: int, k: int, o: int, isa: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((*lead, m, k), np.float32), rng.standard_normal((*lead, k, o), np.float32)
    problem = MatmulProblem(batch=math.prod(lead), rows=m, inner=k, columns=o)
    knobs = TileKnobs.default(problem, machine(isa))
    assert knobs is not None
    got = run_operator(batch_matmul, [a, b], knobs, "batch_matmul", isa)
    want = batch_matmul_reference(a, b)
    assert_close(got, want, RTOL)
