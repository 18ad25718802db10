import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te

from tvm_fastconv.topi.bits import pack_bits, pack_digits
from tvm_fastconv.topi.bitserial_conv2d import (
    BitserialKnobs,
    BitserialParams,
    BitserialProblem,
    bitserial_conv2d,
    bitserial_conv2d_packed,
    bitserial_conv2d_reference,
    border_table,
    pack_signs,
    packed_limits,
    weight_values,
)
from tvm_fastconv.topi.borders import border_classes
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.window import extents

from .run_operator import each_isa, machine, run_operator

CASES = {
    "3x3": BitserialParams(
        conv=Conv2dParams(kernel=(3, 3), out_channels=64, padding=(1, 1, 1, 1)), channels=64
    ),
    "stride 2, odd channels": BitserialParams(
        conv=Conv2dParams(kernel=(3, 3), out_channels=40, stride=(2, 2), padding=(1, 1, 1, 1)), channels=33
    ),
    "asymmetric": BitserialParams(
        conv=Conv2dParams(kernel=(2, 5), out_channels=17, stride=(1, 3), padding=(0, 3, 1, 2)), channels=100
    ),
    "dilated, padded with +1": BitserialParams(
        conv=Conv2dParams(kernel=(3, 3), out_channels=32, dilation=(2, 3), padding=(2, 3, 2, 3)),
        channels=40,
        padding_value=1,
    ),
    "padded with -1": BitserialParams(
        conv=Conv2dParams(kernel=(3, 3), out_channels=32, padding=(1, 1, 1, 1)), channels=40, padding_value=-1
    ),
    "groups": BitserialParams(
        conv=Conv2dParams(kernel=(3, 3), out_channels=128, padding=(1, 1, 1, 1), groups=2), channels=72
    ),
    "2 bits": BitserialParams(
        conv=Conv2dParams(kernel=(3, 3), out_channels=32, padding=(1, 1, 1, 1)),
        channels=40,
        activation_bits=2,
        step=1,
        offset=0,
    ),
    "3 bits, signed, 2-bit weights": BitserialParams(
        conv=Conv2dParams(kernel=(3, 3), out_channels=33, padding=(1, 1, 1, 1)),
        channels=20,
        activation_bits=3,
        step=1,
        offset=-4,
        bit_planes=(1, 2),
    ),
    "ternary weights": BitserialParams(
        conv=Conv2dParams(kernel=(1, 1), out_channels=70), channels=65, bit_planes=(1, 1)
    ),
    "one output channel": BitserialParams(
        conv=Conv2dParams(kernel=(3, 3), out_channels=1, padding=(1, 1, 1, 1)), channels=70
    ),
    "kernel as large as the plane": BitserialParams(
        conv=Conv2dParams(kernel=(7, 7), out_channels=16, padding=(3, 3, 3, 3)), channels=32
    ),
}


def _levels_and_signs(params: BitserialParams, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    conv = params.conv
    levels = rng.integers(0, 2**params.activation_bits, (2, 7, 9, params.channels))
    shape = (len(params.bit_planes), conv.out_channels, params.channels // conv.groups, *conv.kernel)
    return levels, rng.random(shape) < 0.5


def _words(levels: np.ndarray, params: BitserialParams) -> np.ndarray:
    parts = np.split(levels, params.conv.groups, axis=-1)
    return np.concatenate([pack_digits(part, params.activation_bits) for part in parts], axis=-1)


def _torch(levels: np.ndarray, signs: np.ndarray, params: BitserialParams) -> np.ndarray:
    """The same layer in PyTorch, in float64, where every value is an exact integer."""
    conv = params.conv
    values = torch.from_numpy(params.step * levels + params.offset).double().permute(0, 3, 1, 2)
    top, left, bottom, right = conv.padding
    padded = torch.nn.functional.pad(values, (left, right, top, bottom), value=float(params.padding_value))
    weight = torch.from_numpy(weight_values(signs, params.bit_planes)).double()
    out = torch.nn.functional.conv2d(
        padded, weight, stride=conv.stride, dilation=conv.dilation, groups=conv.groups
    )
    return out.permute(0, 2, 3, 1).numpy().astype(np.int32)


def _knobs(params: BitserialParams, isa: str, packed: bool = False) -> BitserialKnobs:
    problem = BitserialProblem(batch=2, height=7, width=9, layer=params, packed=packed)
    knobs = BitserialKnobs.default(problem, machine(isa))
    assert knobs is not None
    return knobs


@pytest.mark.parametrize("name", CASES)
def test_the_reference_is_what_pytorch_computes(name: str) -> None:
    params = CASES[name]
    levels, signs = _levels_and_signs(params)
    got = bitserial_conv2d_reference(_words(levels, params), signs, params)
    np.testing.assert_array_equal(got, _torch(levels, signs, params))


@pytest.mark.parametrize("bytewise", [False, True])
@each_isa
@pytest.mark.parametrize("name", CASES)
def test_sums_are_equal(name: str, isa: str, bytewise: bool) -> None:
    params = CASES[name]
    levels, signs = _levels_and_signs(params)
    knobs = _knobs(params, isa)
    arrays = [_words(levels, params), pack_signs(signs, knobs.panel), border_table(signs, params, 7, 9)]
    got = run_operator(
        bitserial_conv2d, arrays, knobs, "bitserial_conv2d", isa, params=params, bytewise=bytewise
    )
    np.testing.assert_array_equal(got, _torch(levels, signs, params))


@pytest.mark.parametrize("bytewise", [False, True])
@each_isa
@pytest.mark.parametrize("name", [name for name in CASES if name != "groups"])
def test_packed_decisions_are_equal(name: str, isa: str, bytewise: bool) -> None:
    params = CASES[name]
    levels, signs = _levels_and_signs(params)
    total = _torch(levels, signs, params)
    at = np.random.default_rng(1).integers(-9, 9, params.conv.out_channels).astype(np.float64)
    at[:2] = [np.inf, -np.inf][: at.size]
    knobs = _knobs(params, isa, packed=True)
    table = border_table(signs, params, 7, 9)
    arrays = [
        _words(levels, params),
        pack_signs(signs, knobs.panel),
        packed_limits(table, params.step, at, knobs.panel),
    ]
    got = run_operator(
        bitserial_conv2d_packed, arrays, knobs, "bitserial_conv2d", isa, params=params, bytewise=bytewise
    )
    np.testing.assert_array_equal(got, pack_bits(total >= at))


@pytest.mark.parametrize(
    "name", [name for name, params in CASES.items() if params.conv.padding != (0, 0, 0, 0)]
)
def test_kernel_rows_outside_the_plane_are_passed_over(name: str) -> None:
    params = dataclasses.replace(CASES[name], skips_rows=True)
    levels, signs = _levels_and_signs(params)
    knobs = dataclasses.replace(_knobs(params, "avx512"), tile_h=1)
    arrays = [_words(levels, params), pack_signs(signs, knobs.panel), border_table(signs, params, 7, 9)]
    got = run_operator(bitserial_conv2d, arrays, knobs, "bitserial_conv2d", "avx512", params=params)
    np.testing.assert_array_equal(got, _torch(levels, signs, params))
    if params.conv.groups == 1:
        knobs = dataclasses.replace(_knobs(params, "avx512", packed=True), tile_h=1)
        limits = packed_limits(arrays[2], params.step, np.zeros(params.conv.out_channels), knobs.panel)
        arrays = [arrays[0], pack_signs(signs, knobs.panel), limits]
        got = run_operator(
            bitserial_conv2d_packed, arrays, knobs, "bitserial_conv2d", "avx512", params=params
        )
        np.testing.assert_array_equal(got, pack_bits(_torch(levels, signs, params) >= 0))


def test_skipped_rows_are_not_computed() -> None:
    """One condition stands in the loop over kernel rows, around the whole tile."""
    params, knobs = CASES["3x3"], dataclasses.replace(_knobs(CASES["3x3"], "avx512"), tile_h=1)
    for skips in (False, True):
        params = dataclasses.replace(params, skips_rows=skips)
        levels, signs = _levels_and_signs(params)
        arrays = [_words(levels, params), pack_signs(signs, knobs.panel), border_table(signs, params, 7, 9)]
        tensors = [te.placeholder(extents(*a.shape), str(a.dtype)) for a in arrays]
        attrs = {"fastconv.op": "bitserial_conv2d", "fastconv.knobs": knobs.to_json()}
        func = te.create_prim_func([*tensors, bitserial_conv2d(*tensors, params, knobs, attrs)])
        lines = schedule_primfunc(func, machine("avx512")).script().splitlines()
        assert sum(line.strip().startswith("if ") for line in lines) == skips


@st.composite
def _geometries(draw: st.DrawFn) -> BitserialParams:
    pair = lambda low, high: draw(st.tuples(st.integers(low, high), st.integers(low, high)))  # noqa: E731
    kernel, dilation = pair(1, 3), pair(1, 2)
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    return BitserialParams(
        conv=Conv2dParams(
            kernel=kernel, dilation=dilation, stride=pair(1, 4), padding=padding, out_channels=draw(st.integers(1, 50))
        ),
        channels=draw(st.integers(1, 70)),
        activation_bits=draw(st.integers(1, 3)),
        step=draw(st.integers(1, 2)),
        offset=draw(st.integers(-5, 5)),
        padding_value=draw(st.integers(-2, 2)),
        bit_planes=draw(st.sampled_from([(1,), (1, 2), (1, 1), (1, 2, 1)])),
    )  # fmt: skip


@given(_geometries(), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_any_geometry_is_equal(params: BitserialParams, seed: int) -> None:
    levels, signs = _levels_and_signs(params, seed)
    knobs = _knobs(params, "avx2")
    arrays = [_words(levels, params), pack_signs(signs, knobs.panel), border_table(signs, params, 7, 9)]
    got = run_operator(
        bitserial_conv2d, arrays, knobs, "bitserial_conv2d", "avx2", params=params, bytewise=bool(seed % 2)
    )
    np.testing.assert_array_equal(got, _torch(levels, signs, params))


def test_borders_are_few_classes() -> None:
    params = CASES["3x3"]
    rows, columns = border_classes(params, 56, 56)
    assert rows.tolist() == [[False, True, True], [True, True, True], [True, True, False]]
    assert columns.shape == (3, 3)
    unpadded = BitserialParams(conv=Conv2dParams(kernel=(3, 3), out_channels=8), channels=8)
    assert border_classes(unpadded, 56, 56)[0].tolist() == [[True] * 3]
