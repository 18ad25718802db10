"""Matrix products on a GPU: shapes that fit no tile, and what TVM would get wrong about single rows and columns."""

import dataclasses

import numpy as np
import pytest

from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.dense import MatmulProblem
from tvm_fastconv.topi.gpu import GPUS
from tvm_fastconv.topi.problem import Problem
from tvm_fastconv.topi.schedules.cuda.gemm_knobs import GemmKnobs
from tvm_fastconv.topi.winograd_conv2d import WinogradProblem

from ....close import assert_close
from ....cuda.emulate import launches, run_in_all_orders

H100 = GPUS["h100"]
SMALL = GemmKnobs(tile_m=16, tile_o=32, tile_k=16, thread_m=4, thread_o=4, slices=1)
WIDE = GemmKnobs(tile_m=64, tile_o=32, tile_k=8, thread_m=8, thread_o=8, slices=1)
LINES = GemmKnobs(tile_m=32, tile_o=32, tile_k=8, thread_m=4, thread_o=4, slices=1)


def sliced(knobs: GemmKnobs, slices: int) -> GemmKnobs:
    return dataclasses.replace(knobs, slices=slices)


def conv(
    height: int, width: int, channels: int, outputs: int, kernel: int | tuple[int, int] = 3, **how: object
) -> ConvProblem:
    both = (kernel, kernel) if isinstance(kernel, int) else kernel
    params = Conv2dParams(kernel=both, out_channels=outputs, **how)  # type: ignore[arg-type]
    return ConvProblem(height=height, width=width, channels=channels, conv=params)


PADDED = {"padding": (1, 1, 1, 1)}


@pytest.mark.parametrize(
    ("op", "problem", "knobs"),
    [
        ("conv2d", conv(1, 1, 48, 32, 1), SMALL),
        ("conv2d", conv(1, 1, 48, 32, 1), sliced(SMALL, 3)),
        ("conv2d", conv(5, 4, 48, 1, **PADDED), SMALL),
        ("conv2d", conv(5, 4, 48, 1, **PADDED), sliced(SMALL, 9)),
        ("conv2d", conv(5, 4, 48, 2, **PADDED), SMALL),
        ("conv2d", conv(5, 6, 16, 40, 5, padding=(2, 0, 1, 3), stride=(2, 1)), WIDE),
        ("conv2d", conv(5, 6, 17, 40, dilation=(2, 1), **PADDED), WIDE),
        ("conv2d", conv(5, 6, 8, 9, input_dilation=(2, 3), **PADDED), WIDE),
        ("conv2d", conv(7, 6, 3, 9, data_layout="NCHW", **PADDED), WIDE),
        ("conv2d", conv(9, 11, 3, 40, 7, data_layout="NCHW", stride=(2, 2), padding=(3, 3, 3, 3)), LINES),
        ("conv2d", conv(9, 11, 5, 33, 7, dilation=(1, 2), padding=(3, 6, 1, 5)), sliced(LINES, 5)),
        ("conv2d", conv(6, 9, 1, 33, (3, 8), input_dilation=(2, 1), padding=(1, 3, 1, 4)), LINES),
        ("dense", MatmulProblem(rows=1, inner=48, columns=1), SMALL),
        ("dense", MatmulProblem(rows=70, inner=33, columns=70), WIDE),
        ("batch_matmul", MatmulProblem(batch=3, rows=1, inner=48, columns=1), SMALL),
        ("batch_matmul", MatmulProblem(batch=2, rows=70, inner=32, columns=33), sliced(WIDE, 2)),
    ],
)
def test_any_shape(op: str, problem: Problem, knobs: GemmKnobs) -> None:
    made = build(op, problem, knobs, H100)
    got = run_in_all_orders(made.func, list(made.arrays), list(made.result_shape), made.result_dtype)
    # Float32 sums of up to 432 terms in another order.
    assert_close(got, made.reference(), 2e-6)


def test_of_few_channels_a_step_is_a_line_of_taps() -> None:
    for kernel, channels, lines in ((7, 3, 21), (7, 4, 0), (5, 3, 0), ((3, 8), 1, 3)):
        loops = conv(9, 9, channels, 32, kernel, **PADDED).gemm_loops
        assert loops is not None
        steps = loops.steps(8)
        assert steps.in_lines == bool(lines)
        assert not lines or steps.count == lines


def test_slices_are_added_by_a_kernel_of_their_own() -> None:
    problem = conv(6, 6, 64, 32, **PADDED)
    for slices, kernels in ((1, 1), (4, 2)):
        made = launches(build("conv2d", problem, sliced(SMALL, slices), H100).func)
        assert len(made) == kernels
        assert made[0].grid == (3 * slices, 1, 1)
        assert made[0].block == (32, 1, 1)


def test_steps_are_of_one_tap_where_the_channels_allow_it() -> None:
    """And slices share them evenly: other numbers are not in the space."""
    for channels, steps in ((32, 18), (24, 14), (3, 2)):
        problem = conv(6, 6, channels, 32, **PADDED)
        loops = problem.gemm_loops
        assert loops is not None
        assert loops.steps(16).count == steps
        sliced_by = {knobs.slices for knobs in GemmKnobs.space(problem, H100) if knobs.tile_k == 16}
        assert sliced_by == {n for n in range(1, 33) if steps % n == 0}


def test_more_products_than_an_axis_of_a_grid_takes_blocks() -> None:
    many = MatmulProblem(batch=70_000, rows=4, inner=4, columns=4)
    assert launches(build("batch_matmul", many, SMALL, H100).func)[0].grid == (70_000, 1, 1)
    wide = MatmulProblem(rows=2, inner=4, columns=70_000 * 32)
    assert launches(build("dense", wide, SMALL, H100).func)[0].grid == (70_000, 1, 1)


def test_several_groups_are_no_product() -> None:
    problem = conv(6, 6, 32, 32, groups=2, **PADDED)
    assert list(GemmKnobs.space(problem, H100)) == []
    assert GemmKnobs.default(problem, H100) is None


def test_a_small_product_gets_small_tiles_and_more_slices() -> None:
    """A single image of 7×7 fills a GPU only in slices; 32 images of 56×56 need none."""
    deep = ConvProblem(
        height=7, width=7, channels=512, conv=Conv2dParams(kernel=(3, 3), out_channels=512, **PADDED)
    )
    wide = ConvProblem(
        batch=32,
        height=56,
        width=56,
        channels=64,
        conv=Conv2dParams(kernel=(3, 3), out_channels=64, **PADDED),
    )
    few, many = GemmKnobs.default(deep, H100), GemmKnobs.default(wide, H100)
    assert few is not None
    assert many is not None
    assert few.slices > 4
    assert many.slices == 1
    assert few.tile_m < many.tile_m


def test_winograd_is_three_kernels() -> None:
    problem = WinogradProblem(**vars(conv(9, 7, 24, 20, **PADDED)), m=4)
    made = build("winograd_conv2d", problem, _knobs(problem), H100)
    assert [len(made_by.block) for made_by in launches(made.func)] == [3, 3, 3]
    got = run_in_all_orders(made.func, list(made.arrays), list(made.result_shape), made.result_dtype)
    # The transforms multiply rounding; see `winograd_transforms`.
    assert_close(got, made.reference(), 2e-5)
    np.testing.assert_equal(got.shape, (1, 9, 7, 20))


def _knobs(problem: WinogradProblem) -> GemmKnobs:
    from tvm_fastconv.topi.operators import operator_of

    return operator_of("cuda", "winograd_conv2d").knobs.default(problem, H100)
