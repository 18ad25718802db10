import numpy as np
import pytest

from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.depthwise_conv2d import (
    DepthwiseProblem,
    depthwise_conv2d,
    depthwise_conv2d_reference,
    pack_depthwise_weight,
)
from tvm_fastconv.topi.schedules.cpu.window import WindowKnobs

from ..close import assert_close
from .run_operator import each_isa, machine, run_operator

RTOL = 1e-6  # sums of at most 81 terms in another order, relative to the largest output

CASES = {
    "3x3": ((1, 14, 14, 32), 1, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "24 channels, stride 2": ((2, 15, 13, 24), 1, (3, 3), (2, 2), (0, 1, 1, 0), (1, 1)),
    "17 channels": ((1, 9, 9, 17), 1, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "multiplier 3": ((1, 6, 8, 10), 3, (3, 3), (1, 2), (1, 1, 1, 1), (1, 1)),
    "5x3 dilated": ((1, 12, 12, 16), 1, (5, 3), (1, 1), (4, 2, 4, 2), (2, 2)),
    "9x9": ((1, 10, 10, 8), 1, (9, 9), (1, 1), (4, 4, 4, 4), (1, 1)),
    "no padding": ((1, 8, 8, 100), 1, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1)),
    "plane smaller than the kernel": ((1, 1, 2, 16), 1, (5, 5), (1, 1), (2, 2, 2, 2), (1, 1)),
    "large plane": ((1, 112, 112, 4), 1, (3, 3), (4, 4), (1, 1, 1, 1), (1, 1)),
}


@each_isa
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference(case: str, isa: str) -> None:
    shape, multiplier, kernel, stride, padding, dilation = CASES[case]
    n, h, w, c = shape
    params = Conv2dParams(
        kernel=kernel,
        out_channels=c * multiplier,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=c,
    )
    rng = np.random.default_rng(0)
    data = rng.standard_normal(shape, np.float32)
    weight = rng.standard_normal((c * multiplier, 1, *kernel), np.float32)
    problem = DepthwiseProblem(batch=n, height=h, width=w, channels=c, conv=params)
    knobs = WindowKnobs.default(problem, machine(isa))
    got = run_operator(
        depthwise_conv2d, [data, pack_depthwise_weight(weight)], knobs, "depthwise_conv2d", isa, params=params
    )
    want = depthwise_conv2d_reference(data, weight, params)
    assert_close(got, want, RTOL)
