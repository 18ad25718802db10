import dataclasses

import numpy as np
import pytest
import torch

from tvm_fastconv.runtime.cpu import missing_features
from tvm_fastconv.topi.borders import FewLevelParams, offset_table
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.int8_conv2d import (
    Int8Knobs,
    Int8Problem,
    int8_conv2d,
    int8_conv2d_reference,
    pack_int8,
)
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs

from .run_operator import machine, run_operator

KNOBS = TileKnobs(lanes=16, vectors=2, tile_h=1, tile_w=4, strip=2, chunks=1)
CASES = {
    "3x3": FewLevelParams(
        conv=Conv2dParams(kernel=(3, 3), out_channels=40, padding=(1, 1, 1, 1)), channels=20, step=1, offset=0
    ),
    "signed, stride 2": FewLevelParams(
        conv=Conv2dParams(kernel=(3, 2), out_channels=17, stride=(2, 1), padding=(0, 1, 2, 1)),
        channels=8,
        step=1,
        offset=-128,
    ),
    "1x1, padded with a value": FewLevelParams(
        conv=Conv2dParams(kernel=(1, 1), out_channels=33, padding=(1, 1, 1, 1)),
        channels=64,
        step=2,
        offset=-7,
        padding_value=5,
    ),
}


def _data(params: FewLevelParams) -> tuple[np.ndarray, np.ndarray]:
    rng, conv = np.random.default_rng(0), params.conv
    levels = rng.integers(0, 256, (2, 7, 9, params.channels)).astype(np.uint8)
    weight = rng.integers(-128, 128, (conv.out_channels, params.channels, *conv.kernel)).astype(np.int8)
    return levels, weight


def _torch(levels: np.ndarray, weight: np.ndarray, params: FewLevelParams) -> np.ndarray:
    """In float64, where every value is an exact integer."""
    conv = params.conv
    values = torch.from_numpy(params.step * levels.astype(np.int64) + params.offset).double()
    top, left, bottom, right = conv.padding
    padded = torch.nn.functional.pad(
        values.permute(0, 3, 1, 2), (left, right, top, bottom), value=params.padding_value
    )
    out = torch.nn.functional.conv2d(padded, torch.from_numpy(weight).double(), stride=conv.stride)
    return out.permute(0, 2, 3, 1).numpy().astype(np.int32)


@pytest.mark.parametrize("name", CASES)
def test_the_reference_is_what_pytorch_computes(name: str) -> None:
    levels, weight = _data(CASES[name])
    got = int8_conv2d_reference(levels, weight, CASES[name])
    np.testing.assert_array_equal(got, _torch(levels, weight, CASES[name]))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("vectors", [1, 2, 4])
def test_sums_are_equal(name: str, vectors: int) -> None:
    if missing := missing_features(("avx512vnni",)):
        pytest.skip(f"this CPU lacks {', '.join(missing)}")
    params, knobs = CASES[name], dataclasses.replace(KNOBS, vectors=vectors)
    levels, weight = _data(params)
    table = offset_table(weight.astype(np.int64), params, 7, 9).astype(np.int32)
    arrays = [levels, pack_int8(weight, knobs.panel), table]
    got = run_operator(int8_conv2d, arrays, knobs, "int8_conv2d", "vnni", params=params)
    np.testing.assert_array_equal(got, _torch(levels, weight, params))


def test_outputs_that_fill_no_vector_have_no_tile() -> None:
    conv = Conv2dParams(kernel=(3, 3), out_channels=8, padding=(1, 1, 1, 1))
    problem = Int8Problem(height=9, width=11, layer=FewLevelParams(conv=conv, channels=24))
    assert Int8Knobs.default(problem, machine("vnni")) is None
    assert not list(Int8Knobs.space(problem, machine("vnni")))
