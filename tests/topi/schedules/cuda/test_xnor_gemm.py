"""The product of signs on a GPU: any shape and any tile, from floats and from packed bits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cuda.bitserial import POPCOUNTS, TENSOR_CORES
from tvm_fastconv.topi.schedules.cuda.xnor_gemm import MANY_BLOCKS, THREAD_TILES, TILES, XnorGemmGpuKnobs
from tvm_fastconv.topi.xnor_gemm import XnorGemmProblem, xnor_gemm, xnor_gemm_reference
from tvm_fastconv.topi.xnor_gemm_gpu import PackedXnorGemmProblem, pack_lines, xnor_gemm_packed

from ....cuda.emulate import run_in_all_orders

H100, A100, T4 = (GPUS[name] for name in ("h100", "a100", "t4"))


def _knobs(unit: int, tile: tuple[int, int, int, int], stages: int = 2) -> XnorGemmGpuKnobs:
    m, n, part_m, part_n = tile
    return XnorGemmGpuKnobs(
        unit=unit, tile_m=m, tile_n=n, part_m=part_m, part_n=part_n, stages=stages, blocks=MANY_BLOCKS
    )


EVERY_TILE = [(TENSOR_CORES, tile) for tile in TILES] + [(POPCOUNTS, tile) for tile in THREAD_TILES]
SMALL = _knobs(TENSOR_CORES, TILES[-1])
SHAPES = [(1, 1, 1), (5, 33, 17), (33, 1024, 34), (40, 2100, 51), (70, 1025, 2)]


def _check(m: int, k: int, n: int, knobs: XnorGemmGpuKnobs, packed: bool) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape, np.float32) for shape in ((m, k), (k, n)))
    a[0, 0], a[-1, -1], b[0, 0] = np.nan, 0.0, -0.0
    problem = XnorGemmProblem(inner=k, columns=n)
    func = xnor_gemm_packed(k, n, knobs, {}) if packed else xnor_gemm(problem, knobs)
    arrays = [pack_lines(a >= 0), pack_lines(b.T >= 0)] if packed else [a, b]
    shape = (m, n) if packed else (m, 1, n)
    got = run_in_all_orders(schedule_primfunc(func, H100), arrays, shape, "float32")
    np.testing.assert_array_equal(got.reshape(m, n), xnor_gemm_reference(a, b))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_equal(shape: tuple[int, int, int], packed: bool) -> None:
    _check(*shape, SMALL, packed)


@pytest.mark.parametrize(("unit", "tile"), EVERY_TILE)
def test_every_tile_is_equal(unit: int, tile: tuple[int, int, int, int]) -> None:
    _check(tile[0] + 3, 1100, tile[1] + 5, _knobs(unit, tile, stages=3), packed=True)


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_more_steps_than_stages(stages: int) -> None:
    _check(37, 5 * 1024 + 1, 35, dataclasses.replace(SMALL, stages=stages), packed=True)


@pytest.mark.parametrize("stages", [2, 4])
@pytest.mark.parametrize("k", [100, 3000])
@pytest.mark.parametrize("blocks", [1, 3, 7])
def test_blocks_that_compute_many_tiles(blocks: int, k: int, stages: int) -> None:
    """Copies for the next tile are begun in the one before."""
    _check(150, k, 70, dataclasses.replace(SMALL, blocks=blocks, stages=stages), packed=True)
    popcounts = _knobs(POPCOUNTS, THREAD_TILES[-1], stages)
    _check(150, k, 70, dataclasses.replace(popcounts, blocks=blocks), packed=True)


def test_packed_operands_alone() -> None:
    problem = PackedXnorGemmProblem(inner=130, columns=40)
    made = build("xnor_gemm_packed", problem, SMALL, H100)
    got = run_in_all_orders(made.func, made.arrays, made.result_shape, made.result_dtype)
    np.testing.assert_array_equal(got, made.reference())


def test_a_gpu_without_tensor_cores_for_bits_counts() -> None:
    problem = XnorGemmProblem(inner=1024, columns=1024)
    assert {knobs.unit for knobs in XnorGemmGpuKnobs.space(problem, T4)} == {POPCOUNTS}
    for gpu in (H100, A100):
        knobs = XnorGemmGpuKnobs.default(problem, gpu)
        assert knobs.unit == TENSOR_CORES
        assert knobs.shared_bytes <= gpu.block_shared_bytes
