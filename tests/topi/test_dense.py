import math

import numpy as np
import pytest

from tvm_fastconv.topi.conv2d import pack_weight
from tvm_fastconv.topi.dense import MatmulProblem, dense, dense_reference
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs

from ..close import assert_close
from .run_operator import each_isa, machine, run_operator

RTOL = 2e-6  # float32 sums of up to 1000 terms in another order, relative to the largest output


@each_isa
@pytest.mark.parametrize(
    ("lead", "k", "o"),
    [((1,), 1000, 37), ((5,), 64, 64), ((33,), 17, 10), ((2, 9), 8, 100), ((2, 3, 4), 16, 1)],
)
def test_equals_the_reference(lead: tuple[int, ...], k: int, o: int, isa: str) -> None:
    rng = np.random.default_rng(0)
    data, weight = rng.standard_normal((*lead, k), np.float32), rng.standard_normal((o, k), np.float32)
    problem = MatmulProblem(batch=math.prod(lead[:-1]), rows=lead[-1], inner=k, columns=o)
    knobs = TileKnobs.default(problem, machine(isa))
    assert knobs is not None
    packed = pack_weight(weight.reshape(o, k, 1, 1), knobs.panel)
    got = run_operator(dense, [data, packed], knobs, "dense", isa, out_features=o)
    want = dense_reference(data, weight)
    assert_close(got, want, RTOL)
