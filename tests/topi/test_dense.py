import numpy as np
import pytest

from tvm_fastconv.topi.conv2d import pack_weight
from tvm_fastconv.topi.dense import dense, dense_reference
from tvm_fastconv.topi.schedules.cpu.tile import TileProblem, default_knobs

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
    problem = TileProblem(
        batch=1, height=1, width=lead[-1], out_channels=o, groups=1, reduction=k, strip_row_bytes=4 * k,
        weight_bytes=weight.nbytes,
    )  # fmt: skip
    knobs = default_knobs(problem, machine(isa))
    packed = pack_weight(weight.reshape(o, k, 1, 1), knobs.panel)
    got = run_operator(dense, [data, packed], knobs, "dense", isa, out_features=o)
    want = dense_reference(data, weight)
    assert_close(got, want, RTOL)
