from collections.abc import Callable

import numpy as np
import pytest
import torch
import tvm
from tvm import te

from tvm_fastconv.topi.exponential import exp, exp_reference, sigmoid, silu, softmax
from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.window import extents

from .run_operator import TARGETS, each_isa, machine, skip_where_lacking


def _run(compute: Callable[[te.Tensor], te.Tensor], data: np.ndarray, isa: str) -> tuple[np.ndarray, str]:
    skip_where_lacking(isa)
    x = te.placeholder(extents(*data.shape), "float32", name="x")
    func = schedule_primfunc(te.create_prim_func([x, compute(x)]), machine(isa))
    library = tvm.compile(func, target=TARGETS[isa])
    out = tvm.runtime.tensor(np.full(data.shape, np.nan, "float32"))
    library(tvm.runtime.tensor(data), out)
    return out.numpy(), library.mod.inspect_source("s")


@each_isa
def test_exp_is_within_two_ulp_from_end_to_end(isa: str) -> None:
    data = np.linspace(-110, 95, 1 << 16, dtype="float32")
    got, assembly = _run(exp, data, isa)
    want = exp_reference(data)
    assert "expf" not in assembly  # no call of libm
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], np.inf)
    # 2 ulp: the rounding of r and of the last product; below 2^-126 an ulp is 2^-149
    assert (np.abs(got - want)[finite] <= 2 * np.spacing(want[finite])).all()


@pytest.mark.parametrize(
    ("compute", "torch_function"),
    [
        (sigmoid, torch.sigmoid),
        (silu, torch.nn.functional.silu),
        (lambda x: softmax(x, -1), lambda x: torch.softmax(x, -1)),
        (lambda x: softmax(x, 0), lambda x: torch.softmax(x, 0)),
    ],
)
def test_equals_pytorch(compute: Callable, torch_function: Callable) -> None:
    data = np.random.default_rng(0).standard_normal((7, 48)).astype("float32") * 20
    got, _ = _run(compute, data, "avx2")
    want = torch_function(torch.from_numpy(data)).numpy()
    # 1e-6: 2 ulp of exp, and the sum of 48 of them in another order
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-30)
