from dataclasses import replace

import numpy as np
import pytest

from tvm_fastconv.topi.conv2d import Conv2dParams, conv2d_reference
from tvm_fastconv.topi.schedules.cpu.winograd import WinogradKnobs
from tvm_fastconv.topi.winograd_conv2d import (
    WinogradProblem,
    pack_winograd_weight,
    winograd_conv2d,
    winograd_conv2d_reference,
    winograd_error,
    winograd_matrices,
)

from ..close import assert_close
from ..processors import ROWS
from .run_operator import each_isa, machine, run_operator

FORMS = [(2, 3), (4, 3), (3, 4), (2, 5)]
TOLERANCE = {
    4: 1e-6,
    6: 1e-5,
}  # by tile, of the largest output: four times what 512 channels were measured to cost

CASES = {
    "padded": ((1, 14, 14, 16), 32, (1, 1, 1, 1)),
    "tails everywhere": ((2, 13, 9, 17), 40, (1, 1, 1, 1)),
    "odd padding": ((1, 7, 11, 12), 8, (0, 2, 1, 0)),
    "no padding": ((1, 10, 6, 100), 24, (0, 0, 0, 0)),
    "several strips": ((1, 60, 48, 32), 32, (1, 1, 1, 1)),
    "plane of one pixel": ((3, 1, 1, 8), 16, (2, 2, 2, 2)),
}


STRIDED = [(5, 2, 4), (5, 2, 2), (7, 2, 3), (9, 2, 2), (11, 4, 4)]
"""Kernel, stride and m."""


def _case(name: str, taps: int) -> tuple[np.ndarray, np.ndarray, Conv2dParams]:
    shape, out_channels, padding = CASES[name]
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((out_channels, shape[3], taps, taps), np.float32)
    return (
        rng.standard_normal(shape, np.float32),
        weight,
        Conv2dParams(kernel=(taps, taps), out_channels=out_channels, padding=padding),
    )


@pytest.mark.parametrize(("m", "taps"), FORMS)
def test_matrices_convolve(m: int, taps: int) -> None:
    a, g, b = winograd_matrices(m, taps)
    d, k = np.random.default_rng(0).standard_normal((2, m + taps - 1))
    want = [d[i : i + taps] @ k[:taps] for i in range(m)]
    assert_close(a @ ((g @ k[:taps]) * (b @ d)), want, 1e-12)  # float64 rounding


@pytest.mark.parametrize(("m", "taps"), FORMS)
@pytest.mark.parametrize("name", CASES)
def test_reference_equals_direct(name: str, m: int, taps: int) -> None:
    data, weight, params = _case(name, taps)
    want = conv2d_reference(data, weight, params)
    got = winograd_conv2d_reference(data, weight, params, m)
    assert_close(got, want, TOLERANCE[m + taps - 1])


@each_isa
@pytest.mark.parametrize(("m", "taps"), FORMS)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("whole", [False, True])
def test_equals_direct(whole: bool, name: str, m: int, taps: int, isa: str) -> None:
    """In strips of one row of tiles, and the whole plane at once, which is another form of the loops."""
    data, weight, params = _case(name, taps)
    want = conv2d_reference(data, weight, params)
    n, h, w, c = data.shape
    problem = WinogradProblem(batch=n, height=h, width=w, channels=c, conv=params, m=m)
    knobs = WinogradKnobs.default(problem, machine(isa))
    assert knobs is not None
    rows = -(-problem.winograd_loops.tile.height // knobs.tile_h)
    knobs = replace(knobs, strip=rows if whole else 1)
    packed = pack_winograd_weight(weight, m, knobs.panel)
    got = run_operator(winograd_conv2d, [data, packed], knobs, "winograd_conv2d", isa, params=params, m=m)
    assert_close(got, want, TOLERANCE[m + taps - 1])


@each_isa
@pytest.mark.parametrize(("kernel", "stride", "m"), STRIDED)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_strided_equals_direct(layout: str, kernel: int, stride: int, m: int, isa: str) -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal((2, 31, 26, 3), np.float32)
    weight = rng.standard_normal((20, 3, kernel, kernel), np.float32)
    pad = kernel // 2
    params = Conv2dParams(
        kernel=(kernel, kernel), stride=(stride, stride), out_channels=20, padding=(pad, pad, pad - 1, pad),
        data_layout=layout,
    )  # fmt: skip
    want = conv2d_reference(data, weight, params)
    problem = WinogradProblem(batch=2, height=31, width=26, channels=3, conv=params, m=m)
    tolerance = TOLERANCE[m + problem.taps - 1]
    assert_close(winograd_conv2d_reference(data, weight, params, m), want, tolerance)
    assert winograd_error(weight, m, stride) < tolerance
    knobs = WinogradKnobs.default(problem, machine(isa))
    assert knobs is not None
    arrays = [problem.stored(data), pack_winograd_weight(weight, m, knobs.panel, stride)]
    got = run_operator(winograd_conv2d, arrays, knobs, "winograd_conv2d", isa, params=params, m=m)
    assert_close(got, want, tolerance)


def test_error_grows_where_the_weights_cancel() -> None:
    rng = np.random.default_rng(0)
    benign = rng.standard_normal((8, 64, 3, 3)).astype("float32")
    assert winograd_error(benign, 4) < 5e-6
    # Corner taps that cancel between channels: the transform's large intermediate values leave their rounding behind.
    cancelling = np.zeros((8, 64, 3, 3), np.float32)
    cancelling[:, ::2, 0, 0], cancelling[:, 1::2, 0, 0] = 1e4, -1e4
    cancelling += benign
    assert winograd_error(cancelling, 4) > winograd_error(benign, 4)


@pytest.mark.parametrize(
    ("size", "channels", "m", "whole"), [(28, 128, 4, False), (7, 512, 2, True), (14, 512, 4, True)]
)
def test_the_whole_plane_at_once_where_no_cache_holds_the_weights(
    size: int, channels: int, m: int, whole: bool
) -> None:
    conv = Conv2dParams(kernel=(3, 3), out_channels=channels, padding=(1, 1, 1, 1))
    problem = WinogradProblem(height=size, width=size, channels=channels, conv=conv, m=m)
    knobs = WinogradKnobs.default(problem, ROWS["znver4"])
    assert knobs is not None
    assert knobs.strip == (-(-problem.winograd_loops.tile.height // knobs.tile_h) if whole else 1)
