import numpy as np
import pytest
import torch

from tvm_fastconv.decompose.fixed_stencil import STENCILS
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.depthwise_conv2d import kernel_major
from tvm_fastconv.topi.fixed_stencil_conv2d import (
    StencilProblem,
    fixed_stencil_conv2d_reference,
    fixed_stencils,
    outer_product,
    stencil_terms,
)
from tvm_fastconv.topi.schedules.cpu.window import WindowKnobs

from ..close import assert_close
from .run_operator import each_isa, machine, run_operator

RTOL = 1e-6  # sums of at most nine terms in another order, relative to the largest output

ODD = np.array([[[1, 2, 3], [4, 5, 6]], [[0.5, -0.25, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]], np.float32)

CASES = {
    "fxnn": (STENCILS, (1, 14, 14, 32), (1, 1), (1, 1, 1, 1), (1, 1)),
    "17 channels": (STENCILS, (2, 9, 7, 17), (1, 1), (1, 1, 1, 1), (1, 1)),
    "stride and dilation": (STENCILS, (1, 12, 13, 16), (2, 1), (2, 0, 1, 2), (1, 2)),
    "no outer product, fractions, zeros": (ODD, (1, 8, 8, 24), (1, 1), (0, 1, 1, 0), (1, 1)),
    "plane smaller than the kernels": (STENCILS, (1, 1, 2, 8), (1, 1), (1, 1, 1, 1), (1, 1)),
}


@each_isa
@pytest.mark.parametrize("case", CASES)
def test_equals_pytorch(case: str, isa: str) -> None:
    kernels, shape, stride, padding, dilation = CASES[case]
    n, h, w, c = shape
    params = Conv2dParams(
        kernel=kernels.shape[1:],
        out_channels=c * len(kernels),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=c,
    )
    data = np.random.default_rng(0).standard_normal(shape, np.float32)
    rows = tuple(tuple(tuple(map(float, row)) for row in kernel) for kernel in kernels)
    problem = StencilProblem(batch=n, height=h, width=w, channels=c, conv=params, kernels=rows)
    np.testing.assert_array_equal(problem.array, kernels)
    knobs = WindowKnobs.default(problem, machine(isa))
    got = run_operator(fixed_stencils, [data], knobs, "fixed_stencils", isa, kernels=kernels, params=params)
    top, left, bottom, right = padding
    planes = torch.nn.functional.pad(torch.from_numpy(data.transpose(0, 3, 1, 2)), (left, right, top, bottom))
    weight = torch.from_numpy(kernels).repeat(c, 1, 1)[:, None]
    want = torch.conv2d(planes, weight, stride=stride, dilation=dilation, groups=c).numpy()
    want = kernel_major(want.transpose(0, 2, 3, 1), c, axis=3)
    assert_close(got, want, RTOL)
    assert_close(fixed_stencil_conv2d_reference(data, kernels, params), want, RTOL)


def test_kernels_that_differ_by_a_factor_share_a_column() -> None:
    blur, rows, columns, diagonal, identity = (outer_product(kernel) for kernel in STENCILS)
    assert blur[0].tolist() == columns[0].tolist() == [1, 2, 1]
    assert rows[0].tolist() == diagonal[0].tolist() == [1, 0, -1]
    assert identity[0].tolist() == [0, 1, 0]
    assert columns[1].tolist() == [1, 0, -1]


def test_what_is_no_outer_product_is_none() -> None:
    assert outer_product(np.array([[1, 2], [3, 4]], np.float32)) is None
    assert outer_product(STENCILS[0] + np.eye(3, dtype=np.float32)) is None


def test_terms_are_counted_as_they_are_shared() -> None:
    # Columns 1 2 1, 1 0 -1 and 0 1 0 once; rows 1 2 1 twice, 1 0 -1 twice, 0 1 0.
    assert stencil_terms(STENCILS) == 3 + 2 + 1 + 3 + 3 + 2 + 2 + 1
    assert stencil_terms(np.random.default_rng(0).standard_normal((2, 5, 5))) == 50


def test_kernel_major_order() -> None:
    # Channel i · m + s of PyTorch's, for two channels and three kernels.
    assert kernel_major(np.arange(6), channels=2, axis=0).tolist() == [0, 3, 1, 4, 2, 5]
