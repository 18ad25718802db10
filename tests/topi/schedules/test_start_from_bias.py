"""Which sums start from what is added to them, and that they are the same sums."""

from collections.abc import Callable

import numpy as np
import pytest
import tvm_ffi
from tvm import te, tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlock

from tvm_fastconv.topi.schedules.start_from_bias import start_from_bias

from ..run_operator import run_primfunc

ROWS, DEPTH, COLUMNS = 6, 5, 8
Epilogue = Callable[[te.Tensor, te.Tensor], te.Tensor]


def _function(
    epilogue: Epilogue,
    bias: tuple[int, ...] = (COLUMNS,),
    computed: tuple[int, int] = (ROWS, COLUMNS),
    dtype: str = "float32",
) -> tirx.PrimFunc:
    """A matrix product of at least 6 × 8, of which so many are kept, and ``epilogue`` of these and of a bias."""
    a = te.placeholder((computed[0], DEPTH), dtype, name="a")
    b = te.placeholder((DEPTH, computed[1]), dtype, name="b")
    added = te.placeholder(bias, dtype, name="bias")
    k = te.reduce_axis((0, DEPTH), "k")
    sums = te.compute(
        computed,
        lambda i, j: te.sum(a[i, k] * b[k, j], axis=[k]),
        name="sums",
        attrs={"fastconv.op": "dense"},
    )
    crop = te.compute((ROWS, COLUMNS), lambda i, j: sums[i, j], name="crop")
    return te.create_prim_func([a, b, added, epilogue(crop, added)])


def _by_column(sums: te.Tensor, bias: te.Tensor) -> te.Tensor:
    return te.compute(sums.shape, lambda i, j: sums[i, j] + bias[j], name="biased")


def _bias_first(sums: te.Tensor, bias: te.Tensor) -> te.Tensor:
    return te.compute(sums.shape, lambda i, j: bias[j] + sums[i, j], name="biased")


def _tensor(sums: te.Tensor, bias: te.Tensor) -> te.Tensor:
    return te.compute(sums.shape, lambda i, j: sums[i, j] + bias[i, j], name="biased")


def _clamped(sums: te.Tensor, bias: te.Tensor) -> te.Tensor:
    biased = _by_column(sums, bias)
    return te.compute(sums.shape, lambda i, j: tirx.max(biased[i, j], tirx.const(0, sums.dtype)), name="relu")


def _twice(sums: te.Tensor, bias: te.Tensor) -> te.Tensor:
    biased = _by_column(sums, bias)
    return te.compute(sums.shape, lambda i, j: biased[i, j] * sums[i, j], name="product")


def _scaled(sums: te.Tensor, bias: te.Tensor) -> te.Tensor:
    scaled = te.compute(sums.shape, lambda i, j: sums[i, j] * tirx.const(2, sums.dtype), name="scaled")
    return _by_column(scaled, bias)


def _of_a_stage(sums: te.Tensor, bias: te.Tensor) -> te.Tensor:
    computed = te.compute(bias.shape, lambda j: bias[j] * tirx.const(2, bias.dtype), name="computed")
    return _by_column(sums, computed)


def _pooled(sums: te.Tensor, bias: te.Tensor) -> te.Tensor:
    return te.compute(sums.shape, lambda i, j: sums[i, j] + bias[j // 2], name="biased")


def _first_of(func: tirx.PrimFunc) -> tirx.Expr:
    """What the sums start from."""
    found: list[tirx.Expr] = []

    def visit(block: SBlock) -> None:
        if block.init is not None:
            found.append(block.init.value)

    tvm_ffi.structural_walk(func.body, (SBlock, visit))
    (first,) = found
    return first


def _run(func: tirx.PrimFunc, arrays: list[np.ndarray]) -> np.ndarray:
    return run_primfunc(func, arrays, [ROWS, COLUMNS], str(arrays[0].dtype), "sse4")


@pytest.mark.parametrize(
    ("epilogue", "how"),
    [
        (_by_column, {}),
        (_bias_first, {}),
        (_clamped, {}),
        (_by_column, {"computed": (8, COLUMNS)}),
        (_tensor, {"bias": (ROWS, COLUMNS)}),
    ],
)
def test_started(epilogue: Epilogue, how: dict[str, tuple[int, ...]]) -> None:
    before = _function(epilogue, **how)
    after = start_from_bias(before)
    first = _first_of(after)
    assert isinstance(first, TensorLoad)
    assert any(first.source.same_as(param) for param in after.params)
    rng = np.random.default_rng(0)
    shapes = [[int(extent) for extent in param.shape] for param in before.params[:-1]]
    arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
    # Sums of six floats in another order.
    np.testing.assert_allclose(_run(after, arrays), _run(before, arrays), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("epilogue", "how"),
    [
        (_by_column, {"computed": (ROWS, 12)}),
        (_tensor, {"bias": (ROWS, COLUMNS), "computed": (8, COLUMNS)}),
        (_by_column, {"dtype": "int32"}),
        (_twice, {}),
        (_scaled, {}),
        (_of_a_stage, {}),
        (_pooled, {}),
    ],
)
def test_left_alone(epilogue: Epilogue, how: dict[str, object]) -> None:
    before = _function(epilogue, **how)
    assert tvm_ffi.structural_equal(start_from_bias(before), before)


def test_only_operators_of_ours() -> None:
    before = _function(_by_column)
    plain = tvm_ffi.structural_map(before.body, (SBlock, _without_annotations))
    func = tirx.PrimFunc(before.params, plain, before.ret_type, before.attrs)
    assert tvm_ffi.structural_equal(start_from_bias(func), func)


def _without_annotations(block: SBlock) -> SBlock:
    return SBlock(
        block.iter_vars,
        block.reads,
        block.writes,
        block.name_hint,
        block.body,
        block.init,
        block.alloc_buffers,
    )
