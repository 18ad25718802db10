import numpy as np
import pytest
import torch

from tvm_fastconv.topi.bits import pack_bits
from tvm_fastconv.topi.bitserial_conv2d import BitserialParams, border_table
from tvm_fastconv.topi.bitserial_depthwise_conv2d import (
    BitserialDepthwiseProblem,
    bitserial_depthwise_conv2d,
    bitserial_depthwise_conv2d_packed,
    bitserial_depthwise_conv2d_reference,
    limit_rows,
    row_words,
    sign_rows,
)
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.schedules.cpu.bitserial_depthwise import BitserialDepthwiseKnobs

from .run_operator import each_isa, machine, run_compute

PLANE = (7, 9)


def _params(channels: int, kernel: tuple[int, int], padding_value: int = 0, **conv) -> BitserialParams:
    geometry = Conv2dParams(kernel=kernel, out_channels=channels, groups=channels, **conv)
    return BitserialParams(conv=geometry, channels=channels, padding_value=padding_value)


CASES = {
    "3x3": _params(64, (3, 3), padding=(1, 1, 1, 1)),
    "one channel": _params(1, (3, 3), padding=(1, 1, 1, 1)),
    "31 channels, stride 2": _params(31, (3, 3), padding=(1, 1, 1, 1), stride=(2, 2)),
    "32 channels, padded with +1": _params(32, (3, 3), 1, padding=(1, 1, 1, 1)),
    "33 channels, padded with -1": _params(33, (3, 3), -1, padding=(1, 1, 1, 1)),
    "70 channels, dilated": _params(70, (3, 3), padding=(2, 3, 2, 3), dilation=(2, 3)),
    "128 channels, 5x5": _params(128, (5, 5), padding=(2, 2, 2, 2)),
    "5x5, stride 3, dilated": _params(70, (5, 5), -1, padding=(4, 4, 4, 4), dilation=(2, 2), stride=(2, 3)),
    "3x1, asymmetric": _params(33, (3, 1), 1, padding=(0, 2, 1, 1), stride=(1, 3)),
    "1x1": _params(70, (1, 1)),
    "unpadded": _params(600, (3, 3)),
    "0 and 1": BitserialParams(
        conv=Conv2dParams(kernel=(3, 3), out_channels=40, groups=40, padding=(1, 1, 1, 1)),
        channels=40,
        step=1,
        offset=0,
    ),
    "kernel as large as the plane": _params(32, (7, 7), padding=(3, 3, 3, 3)),
}  # fmt: skip


def _bits_and_signs(params: BitserialParams) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((2, *PLANE, params.channels)) < 0.5, rng.random(
        (1, params.channels, 1, *params.conv.kernel)
    ) < 0.5


def _torch(bits: np.ndarray, signs: np.ndarray, params: BitserialParams) -> np.ndarray:
    """The same layer in PyTorch, in float64, where every value is an exact integer."""
    conv = params.conv
    values = torch.from_numpy(params.step * bits + params.offset).double().permute(0, 3, 1, 2)
    top, left, bottom, right = conv.padding
    padded = torch.nn.functional.pad(values, (left, right, top, bottom), value=float(params.padding_value))
    weight = torch.from_numpy(np.where(signs[0], 1.0, -1.0))
    out = torch.nn.functional.conv2d(
        padded, weight, stride=conv.stride, dilation=conv.dilation, groups=conv.groups
    )
    return out.permute(0, 2, 3, 1).numpy().astype(np.int32)


def _knobs(params: BitserialParams, isa: str, packed: bool = False) -> BitserialDepthwiseKnobs:
    problem = BitserialDepthwiseProblem(batch=2, height=PLANE[0], width=PLANE[1], layer=params, packed=packed)
    return BitserialDepthwiseKnobs.default(problem, machine(isa))


@pytest.mark.parametrize("name", CASES)
def test_the_reference_is_what_pytorch_computes(name: str) -> None:
    bits, signs = _bits_and_signs(CASES[name])
    got = bitserial_depthwise_conv2d_reference(pack_bits(bits), signs, CASES[name])
    np.testing.assert_array_equal(got, _torch(bits, signs, CASES[name]))


@each_isa
@pytest.mark.parametrize("name", CASES)
def test_sums_are_equal(name: str, isa: str) -> None:
    params = CASES[name]
    bits, signs = _bits_and_signs(params)
    knobs = _knobs(params, isa)
    row = row_words(params.conv.output_size(*PLANE)[1], params.channels, knobs.lanes)
    arrays = [pack_bits(bits), sign_rows(signs, row), border_table(signs, params, *PLANE)]
    op = "bitserial_depthwise_conv2d"
    got = run_compute(bitserial_depthwise_conv2d, arrays, knobs, op, isa, params=params)
    np.testing.assert_array_equal(got, bitserial_depthwise_conv2d_reference(arrays[0], signs, params))


@each_isa
@pytest.mark.parametrize("name", CASES)
def test_packed_decisions_are_equal(name: str, isa: str) -> None:
    params = CASES[name]
    bits, signs = _bits_and_signs(params)
    at = np.random.default_rng(1).integers(-9, 9, params.channels).astype(np.float64)
    at[:2] = [np.inf, -np.inf][: at.size]
    knobs = _knobs(params, isa, packed=True)
    row = row_words(params.conv.output_size(*PLANE)[1], params.channels, knobs.lanes)
    limits = limit_rows(border_table(signs, params, *PLANE), params, at, *PLANE, row)
    arrays = [pack_bits(bits), sign_rows(signs, row), limits]
    op = "bitserial_depthwise_conv2d"
    got = run_compute(bitserial_depthwise_conv2d_packed, arrays, knobs, op, isa, params=params)
    np.testing.assert_array_equal(got, pack_bits(_torch(bits, signs, params) >= at))
