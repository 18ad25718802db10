import numpy as np
import pytest
import torch

from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem, conv2d, conv2d_reference, pack_weight
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs

from ..close import assert_close
from .run_operator import each_isa, machine, run_operator

RTOL = 2e-6  # float32 sums of up to 1600 terms in another order, relative to the largest output

P = Conv2dParams
CASES = {
    "3x3": (P(kernel=(3, 3), out_channels=32, padding=(1, 1, 1, 1)), (1, 14, 14, 16)),
    "3 channels in, 17 out, 7x7/2": (
        P(kernel=(7, 7), out_channels=17, stride=(2, 2), padding=(3, 3, 3, 3)), (2, 30, 31, 3)),
    "1x1 in place": (P(kernel=(1, 1), out_channels=40), (1, 12, 12, 100)),
    "1x1 with a tail": (P(kernel=(1, 1), out_channels=40), (1, 5, 31, 17)),
    "5x5 stride 4, odd padding": (
        P(kernel=(5, 5), out_channels=20, stride=(4, 3), padding=(0, 3, 2, 1)), (3, 23, 19, 5)),
    "dilated": (P(kernel=(3, 2), out_channels=8, dilation=(2, 3), padding=(2, 3, 2, 3)), (1, 9, 11, 12)),
    "groups of full vectors": (P(kernel=(3, 3), out_channels=64, groups=2, padding=(1, 1, 1, 1)), (1, 7, 7, 10)),
    "groups of four": (P(kernel=(3, 3), out_channels=32, groups=8, padding=(1, 1, 1, 1)), (1, 6, 6, 24)),
    "plane smaller than the kernel": (P(kernel=(5, 5), out_channels=16, padding=(2, 2, 2, 2)), (1, 2, 1, 7)),
    "one pixel": (P(kernel=(1, 1), out_channels=1000), (1, 1, 1, 64)),
    "one channel out": (P(kernel=(3, 3), out_channels=1, padding=(1, 1, 1, 1)), (1, 8, 8, 4)),
    "transposed": (
        P(kernel=(4, 4), out_channels=9, input_dilation=(2, 2), padding=(2, 2, 3, 2)), (1, 5, 6, 8)),
    "cropped": (P(kernel=(2, 2), out_channels=8, padding=(-1, 0, 0, -1)), (1, 6, 6, 8)),
    "NCHW in": (P(kernel=(3, 3), out_channels=24, padding=(1, 1, 1, 1), data_layout="NCHW"), (1, 15, 15, 3)),
}  # fmt: skip


def _arrays(params: Conv2dParams, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((params.out_channels, shape[3] // params.groups, *params.kernel), np.float32)
    return rng.standard_normal(shape, np.float32), weight


def _run(params: Conv2dParams, data: np.ndarray, weight: np.ndarray, isa: str) -> np.ndarray:
    n, h, w, c = data.shape
    problem = ConvProblem(batch=n, height=h, width=w, channels=c, conv=params)
    knobs = TileKnobs.default(problem, machine(isa))
    assert knobs is not None
    stored = data if params.data_layout == "NHWC" else np.ascontiguousarray(data.transpose(0, 3, 1, 2))
    return run_operator(
        conv2d, [stored, pack_weight(weight, knobs.panel)], knobs, "conv2d", isa, params=params
    )


@each_isa
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference(case: str, isa: str) -> None:
    params, shape = CASES[case]
    data, weight = _arrays(params, shape)
    want = conv2d_reference(data, weight, params)
    assert_close(_run(params, data, weight, isa), want, RTOL)


@pytest.mark.parametrize("case", [name for name, (params, _) in CASES.items() if min(params.padding) >= 0])
def test_reference_equals_pytorch(case: str) -> None:
    params, shape = CASES[case]
    data, weight = _arrays(params, shape)
    n, h, w, c = shape
    dh, dw = params.input_dilation
    spread = torch.zeros(n, c, (h - 1) * dh + 1, (w - 1) * dw + 1)
    spread[:, :, ::dh, ::dw] = torch.from_numpy(data).permute(0, 3, 1, 2)
    top, left, bottom, right = params.padding
    padded = torch.nn.functional.pad(spread, (left, right, top, bottom))
    want = torch.conv2d(
        padded, torch.from_numpy(weight), None, params.stride, 0, params.dilation, params.groups
    ).permute(0, 2, 3, 1)
    got = conv2d_reference(data, weight, params)
    assert_close(got, want, RTOL)
