"""Bitserial convolutions on a GPU: any geometry, on tensor cores and by popcounts, floats and bits behind them."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from tvm import te

from tvm_fastconv.topi.bits import pack_bits
from tvm_fastconv.topi.bitserial_conv2d import (
    BitserialParams,
    BitserialProblem,
    bitserial_conv2d,
    bitserial_conv2d_packed,
    border_table,
    pack_signs,
    packed_limits,
)
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.operators import activated, operator_attrs
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cuda.bitserial import POPCOUNTS, TENSOR_CORES, BitserialGpuKnobs
from tvm_fastconv.topi.window import extents

from ....cuda.emulate import run_emulated, run_in_all_orders
from ...test_bitserial_conv2d import CASES, _levels_and_signs, _torch, _words

H100, T4 = GPUS["h100"], GPUS["t4"]

MORE = {
    "words in fours": BitserialParams(
        conv=Conv2dParams(kernel=(3, 3), out_channels=24, padding=(1, 1, 1, 1)), channels=128
    ),
    "one channel of each group": BitserialParams(
        conv=Conv2dParams(kernel=(3, 3), out_channels=6, padding=(1, 1, 1, 1), groups=6), channels=6
    ),
}
ALL = CASES | MORE


def _problem(name: str, packed: bool = False) -> BitserialProblem:
    return BitserialProblem(batch=2, height=7, width=9, layer=ALL[name], packed=packed)


def _members(name: str, packed: bool = False) -> list[BitserialGpuKnobs]:
    """The default on GPUs with and without tensor cores for bits, and one at random for each."""
    problem, members = _problem(name, packed), []
    for unit in (TENSOR_CORES, POPCOUNTS):
        space = [knobs for knobs in BitserialGpuKnobs.space(problem, H100) if knobs.unit == unit]
        if space:
            best = min(space, key=lambda knobs: knobs.cycles(problem, H100))
            members += [best, random.Random(name).choice(space)]
    return members


MEMBERS = [
    pytest.param(name, knobs, id=f"{name}-{i}") for name in ALL for i, knobs in enumerate(_members(name))
]
PACKED = [
    pytest.param(name, knobs, id=f"{name}-{i}")
    for name in ALL
    if ALL[name].conv.groups == 1
    for i, knobs in enumerate(_members(name, packed=True))
]


def _run(name: str, knobs: BitserialGpuKnobs, at: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The result in all orders of threads, and what it should be."""
    params = ALL[name].in_tile(knobs, H100)
    levels, signs = _levels_and_signs(params)
    table, total = border_table(signs, params, 7, 9), _torch(levels, signs, params)
    compute = bitserial_conv2d if at is None else bitserial_conv2d_packed
    last = table if at is None else packed_limits(table, params.step, at, knobs.panel)
    arrays = [_words(levels, params), pack_signs(signs, knobs.panel), last]
    tensors = [te.placeholder(extents(*a.shape), str(a.dtype)) for a in arrays]
    attrs = operator_attrs("bitserial_conv2d", _problem(name, at is not None), knobs)
    result = compute(*tensors, params=params, tile=knobs, attrs=attrs)
    func = schedule_primfunc(te.create_prim_func([*tensors, result]), H100)
    want = total if at is None else pack_bits(total >= at)
    return run_in_all_orders(func, arrays, want.shape, str(want.dtype)), want


@pytest.mark.parametrize(("name", "knobs"), MEMBERS)
def test_sums_are_equal(name: str, knobs: BitserialGpuKnobs) -> None:
    got, want = _run(name, knobs)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("name", "knobs"), PACKED)
def test_packed_decisions_are_equal(name: str, knobs: BitserialGpuKnobs) -> None:
    at = np.random.default_rng(1).integers(-9, 9, ALL[name].conv.out_channels).astype(np.float64)
    at[:2] = [np.inf, -np.inf][: at.size]
    got, want = _run(name, knobs, at)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("warps", [2, 8])
@pytest.mark.parametrize("unit", [TENSOR_CORES, POPCOUNTS])
@pytest.mark.parametrize("name", ["3x3", "asymmetric"])
def test_floats_behind_the_sums_of_any_batch(name: str, unit: int, warps: int) -> None:
    """A batch may have more pixels than a block, or fewer."""
    knobs = BitserialGpuKnobs(unit=unit, panel=32, rows=1, warps=warps)
    params = ALL[name].in_tile(knobs, H100)
    levels, signs = _levels_and_signs(params)
    bias = np.random.default_rng(2).standard_normal(params.conv.out_channels, np.float32)
    arrays = [
        _words(levels, params),
        pack_signs(signs, knobs.panel),
        border_table(signs, params, 7, 9),
        bias,
    ]
    shapes = [(te.var("n", "int64"), *arrays[0].shape[1:]), *(a.shape for a in arrays[1:])]
    tensors = [te.placeholder(extents(*shape), str(a.dtype)) for shape, a in zip(shapes, arrays, strict=True)]
    attrs = operator_attrs("bitserial_conv2d", _problem(name), knobs)
    total = bitserial_conv2d(*tensors[:3], params, knobs, attrs)
    floats = te.compute(total.shape, lambda *at: total[at].astype("float32"), name="floats")
    func = schedule_primfunc(te.create_prim_func([*tensors, activated(floats, tensors[3])]), H100)
    want = np.maximum(_torch(levels, signs, params).astype(np.float32) + bias, 0)
    np.testing.assert_array_equal(run_emulated(func, arrays, want.shape, "float32"), want)


def test_a_gpu_without_tensor_cores_for_bits_counts() -> None:
    assert {knobs.unit for knobs in BitserialGpuKnobs.space(_problem("3x3"), T4)} == {POPCOUNTS}
    best = BitserialGpuKnobs.default(_problem("3x3"), H100)
    assert best is not None
    assert best.unit == TENSOR_CORES


def test_the_table_has_the_ones_of_the_weights_only_where_they_are_counted() -> None:
    params = ALL["2 bits"]
    signs = _levels_and_signs(params)[1]
    knobs = BitserialGpuKnobs(unit=TENSOR_CORES, panel=32, rows=1, warps=1)
    common = border_table(signs, params.in_tile(knobs, H100), 7, 9)
    counted = border_table(signs, params.in_tile(dataclasses.replace(knobs, unit=POPCOUNTS), H100), 7, 9)
    ones = signs.sum((0, 2, 3, 4))
    np.testing.assert_array_equal(counted - common, np.broadcast_to(3 * ones, common.shape))
