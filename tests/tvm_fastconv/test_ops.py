import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import tvm_fastconv as fc
from tvm_fastconv.ops import gemm, tensors

from ..close import assert_close
from .signs import signs, straight_through


def _assert_product(a: torch.Tensor, b: torch.Tensor) -> None:
    got, want = fc.ops.xnor_gemm(a, b), torch.matmul(signs(a), signs(b))
    assert got.dtype == torch.float32
    assert got.is_contiguous()
    assert torch.equal(got, want)
    assert got.shape == want.shape


def test_negated_views_are_read_as_such() -> None:
    _assert_product(torch._neg_view(torch.randn(3, 8)), torch._neg_view(torch.randn(8, 16)))


@pytest.mark.native
@given(st.integers(1, 70), st.integers(1, 140), st.integers(1, 140), st.integers(0, 2**31))
@settings(max_examples=20)
def test_any_shape_is_equal(m: int, k: int, n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    _assert_product(torch.randn(m, k, generator=generator), torch.randn(k, n, generator=generator))


@pytest.mark.parametrize("size", [255, 256, 257, 513])
def test_large_products_are_equal(size: int) -> None:
    _assert_product(torch.randn(size, size), torch.randn(size, size))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((40,), (40,)), ((40,), (40, 9)), ((6, 40), (40,)), ((2, 3, 40), (40, 9)), ((2, 3, 40), (40,)),
        ((5, 1, 3, 40), (2, 40, 9)), ((40,), (2, 40, 9)), ((3, 40), (1, 40, 9)), ((2, 3, 40), (1, 40, 9)),
    ],
)  # fmt: skip
def test_shapes_are_those_of_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    _assert_product(torch.randn(a), torch.randn(b))


def test_special_values() -> None:
    odd = torch.tensor([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-40, -1e-40]).repeat(5)
    _assert_product(odd[None], torch.ones(40, 3))
    _assert_product(torch.ones(3, 40), odd[:, None].expand(40, 20))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floats(dtype: torch.dtype) -> None:
    a, b = torch.randn(5, 40, dtype=dtype), torch.randn(40, 9, dtype=dtype)
    a[0, 0] = torch.finfo(dtype).smallest_normal * -1  # of float64, a negative zero in float32
    a[0, 1] = torch.nan
    _assert_product(a, b)
    _assert_product(a, b.float())


def test_memory_of_any_kind() -> None:
    a, b = torch.randn(50, 8), torch.randn(9, 50)
    _assert_product(a.T, b.T)
    _assert_product(torch.randn(10, 100)[:, ::2], torch.randn(100, 9)[::2])
    _assert_product(torch.randn(401)[1:].view(8, 50), torch.randn(451)[1:].view(50, 9))  # not aligned
    _assert_product(torch.randn(1, 50).expand(7, 50), torch.randn(50, 1).expand(50, 20))
    _assert_product(torch.nn.Parameter(a.T.clone()), torch.nn.Parameter(b.T.clone()))


def test_float32_is_read_in_place() -> None:
    x = torch.randn(64, 64)
    assert tensors.readable(x).data_ptr() == x.data_ptr()
    assert tensors.readable(x[32:]).data_ptr() == x[32:].data_ptr()


def test_inputs_stay_as_they_are() -> None:
    a, b = torch.randn(5, 40), torch.randn(40, 9)
    before = a.clone(), b.clone()
    fc.ops.xnor_gemm(a, b)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


def test_any_number_of_rows_shares_the_code() -> None:
    fc.ops.xnor_gemm(torch.randn(3, 77), torch.randn(77, 21))
    compiled = gemm._compile.cache_info().misses
    for rows in (1, 2, 5, 30, 64):
        _assert_product(torch.randn(rows, 77), torch.randn(77, 21))
    assert gemm._compile.cache_info().misses == compiled


@pytest.mark.parametrize("threads", [1, 2])
def test_threads(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _assert_product(torch.randn(65, 300), torch.randn(300, 333))
    finally:
        torch.set_num_threads(before)


def test_many_callers() -> None:
    failed = []

    def call(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        a, b = torch.randn(33, 90, generator=generator), torch.randn(90, 50, generator=generator)
        want = signs(a) @ signs(b)
        failed.extend(1 for _ in range(20) if not torch.equal(fc.ops.xnor_gemm(a, b), want))

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failed


@pytest.mark.parametrize(
    "shape", [((7, 40), (40, 9)), ((2, 3, 40), (40, 9)), ((2, 3, 40), (2, 40, 5)), ((40,), (40, 6))]
)
def test_gradients(shape: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    ours = [torch.randn(s, requires_grad=True) for s in shape]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    product = fc.ops.xnor_gemm(*ours)
    expected = torch.matmul(*map(straight_through, theirs))
    assert torch.equal(product, expected)
    weights = torch.randn_like(product)
    (product * weights).sum().backward()
    (expected * weights).sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        assert 0 < (x.grad == 0).sum() < x.numel()
        assert_close(x.grad, y.grad, 2e-6)  # sums of up to 40 floats, in another order


def test_gradients_are_kept_for_exactly_one() -> None:
    a = torch.tensor([[1.0, -1.0, 1.0001, -1.0001, 0.0, torch.nan]], requires_grad=True)
    fc.ops.xnor_gemm(a, torch.ones(6, 1)).sum().backward()
    assert a.grad.tolist() == [[1, 1, 0, 0, 1, 0]]


def test_gradients_have_the_dtype_of_the_input() -> None:
    a = torch.randn(5, 40, dtype=torch.bfloat16, requires_grad=True)
    b = torch.randn(40, 9)
    fc.ops.xnor_gemm(a, b).sum().backward()
    assert a.grad.dtype == torch.bfloat16
    assert b.grad is None


def test_a_layer_learns() -> None:
    torch.manual_seed(0)
    data, weight = torch.randn(64, 32), torch.nn.Parameter(torch.randn(32, 8) * 0.1)
    target = signs(data) @ signs(torch.randn(32, 8))
    optimizer = torch.optim.Adam([weight], lr=0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.mse_loss(fc.ops.xnor_gemm(data, weight), target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses) < losses[0] / 4


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (np.ones((2, 3)), torch.ones(3, 2), "a is a numpy.ndarray; expected a torch.Tensor"),
        (
            torch.ones(2, 3),
            torch.ones(3, 2, dtype=torch.int8),
            "b has dtype torch.int8; allowed: torch.float32",
        ),
        (torch.ones(2, 3), torch.ones(3, 2, device="meta"), "b is torch.strided on meta; expected"),
        (torch.ones(2, 3).to_sparse(), torch.ones(3, 2), "a is torch.sparse_coo on cpu; expected"),
        (torch.ones(2, 3), torch.ones(4, 2), "the 3 columns of a are not the 4 rows of b"),
        (torch.ones(2, 3), torch.ones(4), "the 3 columns of a are not the 4 rows of b"),
        (
            torch.ones(0, 3),
            torch.ones(3, 2),
            r"a has shape \(0, 3\); expected a dimension or more, none of size 0",
        ),
        (torch.ones(2, 0), torch.ones(0, 2), r"a has shape \(2, 0\)"),
        (torch.ones(2, 3), torch.ones(3, 0), r"b has shape \(3, 0\)"),
        (torch.tensor(1.0), torch.ones(1, 2), r"a has shape \(\)"),
        (torch.ones(2, 2, 3), torch.ones(5, 3, 2), "the leading sizes do not broadcast"),
    ],
)
def test_errors_say_what_is_wrong(a: torch.Tensor, b: torch.Tensor, says: str) -> None:
    with pytest.raises(fc.InputError, match=f"xnor_gemm: .*{says}"):
        fc.ops.xnor_gemm(a, b)


def test_inside_torch_compile() -> None:
    def model(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return fc.ops.xnor_gemm(x * 2, w) + 1

    a, b = torch.randn(5, 40), torch.randn(40, 9)
    assert torch.equal(torch.compile(model, backend="eager")(a, b), signs(a) @ signs(b) + 1)


def test_after_the_runtime_was_loaded_without_pytorch() -> None:
    script = """
import sys
from tvm_fastconv.runtime.tvm_runtime import tvm_ffi
tvm_ffi()
assert "torch" not in sys.modules
import torch
import tvm_fastconv as fc
a, b = torch.randn(5, 40), torch.randn(40, 9)
assert torch.equal(fc.ops.xnor_gemm(a, b), a.ge(0).float().mul(2).sub(1) @ b.ge(0).float().mul(2).sub(1))
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_defaults_of_pytorch_do_not_matter() -> None:
    a, b = torch.randn(5, 40, dtype=torch.float64, requires_grad=True), torch.randn(40, 9)
    torch.set_default_dtype(torch.float64)
    try:
        product = fc.ops.xnor_gemm(a, b)
        product.sum().backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert product.dtype == torch.float32
    assert torch.equal(product, signs(a) @ signs(b))
    assert a.grad.dtype == torch.float64
