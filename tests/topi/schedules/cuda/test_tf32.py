"""Convolutions and linear layers in TF32: shapes that fit no tile, every tile, any batch, slices."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tvm import te

from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.gpu import GPUS, Gpu
from tvm_fastconv.topi.operators import activated, operator_attrs
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cuda.tf32_knobs import TILES, Tf32Knobs
from tvm_fastconv.topi.tf32_conv2d import (
    pack_tf32_weight,
    round_to_tf32,
    tf32_conv2d,
    tf32_conv2d_reference,
    tf32_dense,
)
from tvm_fastconv.topi.window import extents

from ....close import assert_close
from ....cuda.emulate import launches, run_emulated, run_in_all_orders
from .test_gemm import PADDED, conv

H100, A100, T4 = GPUS["h100"], GPUS["a100"], GPUS["t4"]
SMALL = Tf32Knobs(tile_m=32, tile_o=32, tile_k=16, part_m=16, part_o=16, stages=3, slices=1)
DEEP = dataclasses.replace(SMALL, tile_k=32, stages=4)
WIDE = Tf32Knobs(tile_m=64, tile_o=64, tile_k=16, part_m=32, part_o=32, stages=2, slices=1)


def sliced(knobs: Tf32Knobs, slices: int) -> Tf32Knobs:
    return dataclasses.replace(knobs, slices=slices)


def _check(problem: ConvProblem, knobs: Tf32Knobs) -> None:
    made = build("tf32_conv2d", problem, knobs, H100)
    got = run_in_all_orders(made.func, list(made.arrays), list(made.result_shape), made.result_dtype)
    # Float32 sums of up to 1152 exact products in another order.
    assert_close(got, made.reference(), 2e-6)


@pytest.mark.parametrize(
    ("problem", "knobs"),
    [
        (conv(1, 1, 48, 32, 1), SMALL),
        (conv(1, 1, 48, 32, 1), sliced(SMALL, 3)),
        (conv(5, 4, 48, 1, **PADDED), DEEP),
        (conv(5, 4, 48, 1, **PADDED), sliced(SMALL, 9)),
        (conv(5, 4, 48, 2, **PADDED), SMALL),
        (conv(5, 6, 16, 40, 5, padding=(2, 0, 1, 3), stride=(2, 1)), WIDE),
        (conv(5, 6, 17, 40, dilation=(2, 1), **PADDED), SMALL),
        (conv(5, 6, 18, 40, dilation=(1, 2), **PADDED), DEEP),
        (conv(5, 6, 8, 9, input_dilation=(2, 3), **PADDED), WIDE),
        (conv(6, 6, 8, 8, 2, padding=(-1, 0, 0, -1)), DEEP),
        (conv(2, 1, 7, 16, 5, padding=(2, 2, 2, 2)), SMALL),
        (conv(9, 7, 3, 33, stride=(2, 2), **PADDED), SMALL),
    ],
)
def test_any_shape(problem: ConvProblem, knobs: Tf32Knobs) -> None:
    _check(problem, knobs)


@pytest.mark.parametrize("stages", [2, 4])
@pytest.mark.parametrize("tile", TILES)
def test_every_tile(tile: tuple[int, ...], stages: int) -> None:
    """With fewer steps than stages, and more."""
    problem = ConvProblem(**vars(conv(13, 11, 20, 130, **PADDED)))
    sizes = dict(zip(("tile_m", "tile_o", "part_m", "part_o"), tile, strict=True))
    knobs = Tf32Knobs(**sizes, tile_k=32, stages=stages, slices=3 if stages == 2 else 1)
    _check(problem, knobs)


def test_slices_are_added_by_a_kernel_of_their_own() -> None:
    problem = conv(6, 6, 64, 40, **PADDED)
    for slices, kernels in ((1, 1), (4, 2)):
        made = launches(build("tf32_conv2d", problem, sliced(SMALL, slices), H100).func)
        assert len(made) == kernels
        assert made[0].grid == (2 * 2 * slices, 1, 1)
        assert made[0].block == (128, 1, 1)
        assert made[0].shared_bytes == SMALL.shared_bytes
        assert 0 <= SMALL.shared_bytes - 4 * 3 * 16 * 64 < 4 * SMALL.pitch


def test_sums_need_no_room_of_their_own() -> None:
    """They lie where the steps lay, which take less here."""
    made = launches(build("tf32_conv2d", conv(6, 6, 64, 40, **PADDED), WIDE, H100).func)
    assert made[0].shared_bytes == WIDE.shared_bytes == 4 * 64 * (64 + 8)


@pytest.mark.parametrize("knobs", [SMALL, sliced(SMALL, 7)])
def test_any_batch_of_planes(knobs: Tf32Knobs) -> None:
    rng = np.random.default_rng(0)
    problem = conv(5, 7, 12, 20, **PADDED)
    weight = rng.standard_normal(problem.weight_shape, np.float32)
    arrays = [
        rng.standard_normal((3, 5, 7, 12), np.float32),
        pack_tf32_weight(weight, knobs),
        rng.standard_normal(20, np.float32),
    ]
    tensors = _tensors(arrays)
    attrs = operator_attrs("tf32_conv2d", problem, knobs)
    value = tf32_conv2d(tensors[0], tensors[1], params=problem.conv, tile=knobs, attrs=attrs)
    func = schedule_primfunc(te.create_prim_func([*tensors, activated(value, tensors[2])]), H100)
    want = np.maximum(tf32_conv2d_reference(arrays[0], weight, problem.conv) + arrays[2], 0)
    # Float32 sums of 108 exact products in another order.
    assert_close(run_emulated(func, arrays, want.shape, "float32"), want, 2e-6)


@pytest.mark.parametrize("shape", [(1, 50), (3, 50), (2, 3, 64), (2, 2, 2, 52)])
@pytest.mark.parametrize("slices", [1, 2])
def test_any_batch_of_rows(shape: tuple[int, ...], slices: int) -> None:
    rng, knobs = np.random.default_rng(0), sliced(SMALL, slices)
    weight = rng.standard_normal((21, shape[-1]), np.float32)
    arrays = [rng.standard_normal(shape, np.float32), pack_tf32_weight(weight[:, :, None, None], knobs)]
    tensors = _tensors(arrays)
    problem = ConvProblem(
        height=1, width=1, channels=shape[-1], conv=Conv2dParams(kernel=(1, 1), out_channels=21)
    )
    attrs = operator_attrs("tf32_conv2d", problem, knobs)
    value = tf32_dense(*tensors, out_features=21, tile=knobs, attrs=attrs)
    func = schedule_primfunc(te.create_prim_func([*tensors, value]), H100)
    want = round_to_tf32(arrays[0]).astype(np.float64) @ round_to_tf32(weight).astype(np.float64).T
    # Float32 sums of up to 64 exact products in another order.
    assert_close(run_emulated(func, arrays, want.shape, "float32"), want.astype(np.float32), 2e-6)


def _tensors(arrays: list[np.ndarray]) -> list[te.Tensor]:
    """Placeholders of any batch for the first."""
    shapes = [(te.var("n", "int64"), *arrays[0].shape[1:]), *(a.shape for a in arrays[1:])]
    return [te.placeholder(extents(*shape), "float32", name=f"arg{i}") for i, shape in enumerate(shapes)]


@pytest.mark.parametrize(
    ("problem", "gpu"),
    [
        (conv(6, 6, 32, 32, **PADDED), T4),
        (conv(6, 6, 32, 32, groups=2, **PADDED), H100),
        (conv(6, 6, 3, 32, data_layout="NCHW", **PADDED), H100),
    ],
)
def test_what_has_no_form_in_tf32(problem: ConvProblem, gpu: Gpu) -> None:
    assert Planner(gpu).plan("tf32_conv2d", problem) is None


@pytest.mark.parametrize("gpu", [A100, H100])
def test_a_small_product_gets_small_tiles_or_more_slices(gpu: Gpu) -> None:
    deep = conv(7, 7, 512, 512, **PADDED)
    wide = dataclasses.replace(conv(56, 56, 64, 64, **PADDED), batch=32)
    few, many = (Planner(gpu).planned("tf32_conv2d", problem) for problem in (deep, wide))
    assert few.knobs.slices > 4
    assert many.knobs.slices == 1
    assert few.knobs.tile_m < many.knobs.tile_m
    assert many.cycles < Planner(gpu).planned("conv2d", wide).cycles
