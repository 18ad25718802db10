import numpy as np
import pytest
import torch

from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.pool2d import PoolProblem, pool2d, pool2d_reference
from tvm_fastconv.topi.schedules.cpu.window import WindowKnobs

from .run_operator import each_isa, machine, run_operator

RTOL = 1e-6  # an average of at most 49 terms in another order, relative to the largest output

CASES = {
    "3x3/2": ((1, 15, 15, 32), 3, 2, 1, False),
    "2x2": ((2, 8, 9, 24), 2, 2, 0, False),
    "ceil": ((1, 7, 8, 17), 3, 2, 0, True),
    "ceil and padding": ((1, 8, 8, 5), 3, 2, 1, True),
    "large window": ((1, 14, 14, 16), 7, 1, 3, False),
}


@each_isa
@pytest.mark.parametrize("kind", ["max", "avg", "avg with padding"])
@pytest.mark.parametrize("case", CASES)
def test_equals_pytorch(case: str, kind: str, isa: str) -> None:
    shape, kernel, stride, padding, ceil = CASES[case]
    data = (
        np.random.default_rng(0).standard_normal(shape, np.float32) - 3
    )  # all negative: a border of 0 would win
    planes = torch.from_numpy(data).permute(0, 3, 1, 2)
    count_include_pad = kind == "avg with padding"
    if kind == "max":
        out = torch.nn.functional.max_pool2d(planes, kernel, stride, padding, ceil_mode=ceil)
    else:
        out = torch.nn.functional.avg_pool2d(planes, kernel, stride, padding, ceil, count_include_pad)
    want = out.permute(0, 2, 3, 1).numpy()
    params = Conv2dParams(
        kernel=(kernel, kernel), stride=(stride, stride), padding=(padding,) * 4, out_channels=shape[3]
    )
    how = {"out_size": want.shape[1:3], "kind": kind[:3], "count_include_pad": count_include_pad}
    problem = PoolProblem(batch=shape[0], height=shape[1], width=shape[2], window=params, **how)
    knobs = WindowKnobs.default(problem, machine(isa))
    arguments = {"params": params, **how}
    tolerance = {"rtol": 0, "atol": RTOL * np.abs(want).max()}
    np.testing.assert_allclose(pool2d_reference(data, **arguments), want, **tolerance)
    got = run_operator(pool2d, [data], knobs, f"{kind[:3]}_pool2d", isa, **arguments)
    np.testing.assert_allclose(got, want, **tolerance)
