from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tvm
from tvm import te, tirx, topi
from tvm.s_tir import Schedule
from tvm.s_tir import transform as s_tir

from tvm_fastconv.topi.schedules import schedule_primfunc
from tvm_fastconv.topi.schedules.cpu.seams import seams_of
from tvm_fastconv.topi.schedules.loops import top_blocks
from tvm_fastconv.topi.window import extents

from ....close import assert_close
from ...run_operator import each_isa, machine, run_primfunc

PARTS = {
    "many": (64, *[32] * 9),
    "half vectors": (24, 40, 8),
    "quarter vectors": (12, 12, 4),
    "odd": (3, 300, 8),
}
"""Channels of what is concatenated."""


def _row(condition: Callable[..., tvm.ir.Expr]) -> tirx.PrimFunc:
    """Copies (9, 16) values where ``condition`` of row, column and value holds; 0 elsewhere."""
    x = te.placeholder(extents(9, 16), "float32", name="x")
    zero = tirx.const(0.0, "float32")
    chosen = te.compute(
        extents(9, 16),
        lambda y, c: tirx.if_then_else(condition(y, c, x[y, c]), x[y, c], zero) + x[y, c],
        name="chosen",
    )
    return te.create_prim_func([x, chosen])


def _batch_norm_of_parts(parts: Sequence[int], batch: int | tirx.Var = 2) -> tirx.PrimFunc:
    """``relu(concat(...) · scale + shift)``, as between the layers of a dense block."""
    data = [te.placeholder(extents(batch, 3, 5, c), "float32", name=f"x{i}") for i, c in enumerate(parts)]
    scale, shift = (te.placeholder(extents(1, 1, 1, sum(parts)), "float32", name=n) for n in ("s", "t"))
    result = topi.nn.relu(topi.add(topi.multiply(topi.concatenate(data, 3), scale), shift))
    return te.create_prim_func([*data, scale, shift, result])


def _lowered(func: tirx.PrimFunc) -> str:
    passes = [s_tir.ConvertBlocksToOpaque(), s_tir.LowerOpaqueBlock(), s_tir.StmtSimplify()]
    return tvm.transform.Sequential(passes)(tvm.IRModule({"main": func})).script()


@pytest.mark.parametrize(
    ("condition", "seams"),
    [
        (lambda y, c, _: c < 5, [5]),
        (lambda y, c, _: c <= 4, [5]),
        (lambda y, c, _: c >= 5, [5]),
        (lambda y, c, _: c > 4, [5]),
        (lambda y, c, _: c - 5 >= 0, [5]),
        (lambda y, c, _: 4 - c < 0, [5]),
        (lambda y, c, _: 2 - c >= -2, [5]),
        (lambda y, c, _: tirx.all(c >= 3, c < 11), [3, 11]),
        (lambda y, c, _: tirx.any(c < 3, tirx.all(c >= 8, y < 4)), [3, 8]),
        (lambda y, c, _: tirx.if_then_else(c < 5, y < 2, c < 7), [5, 7]),
        (lambda y, c, _: y < 5, []),
        (lambda y, c, _: c < y, []),
        (lambda y, c, value: value < 5, []),
        (lambda y, c, value: c < value.astype("int64"), []),
        (lambda y, c, _: tirx.floormod(c, 2) < 1, []),
        (lambda y, c, _: 2 * c < 5, [3]),
        (lambda y, c, _: c * c < 5, []),
        (lambda y, c, _: tirx.all(c >= 0, c < 16, c < 99), []),
    ],
)
def test_seams_are_where_a_condition_on_the_last_axis_changes(condition: Callable, seams: list[int]) -> None:
    sch = Schedule(tvm.IRModule({"main": _row(condition)}))
    assert seams_of(sch, top_blocks(sch)[0]) == seams


@each_isa
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS.keys())
def test_every_part_is_copied_by_a_loop_of_its_own(parts: tuple[int, ...], isa: str) -> None:
    script = _lowered(schedule_primfunc(_batch_norm_of_parts(parts), machine(isa)))
    assert "if_then_else" not in script
    assert script.count("T.max(") == len(parts)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS.keys())
def test_equals_numpy(parts: tuple[int, ...], symbolic: bool) -> None:
    rng = np.random.default_rng(0)
    shapes = [*((2, 3, 5, c) for c in parts), *[(1, 1, 1, sum(parts))] * 2]
    *data, scale, shift = (rng.standard_normal(shape).astype("float32") for shape in shapes)
    func = _batch_norm_of_parts(parts, tirx.Var("n", "int64") if symbolic else 2)
    scheduled = schedule_primfunc(func, machine("avx2"))
    assert "if_then_else" not in _lowered(scheduled)
    got = run_primfunc(scheduled, [*data, scale, shift], [2, 3, 5, sum(parts)], "float32", "avx2")
    want = np.maximum(np.concatenate(data, 3).astype("float64") * scale + shift, 0)
    # a product and a sum, rounded once each or, as one fused operation, together
    assert_close(got, want, 1e-6)


def test_zeros_around_the_last_axis_need_no_comparison() -> None:
    x = te.placeholder(extents(1, 4, 6, 9), "float32", name="x")
    func = te.create_prim_func([x, topi.nn.pad(x, [0, 0, 0, 1], [0, 0, 0, 2])])
    scheduled = schedule_primfunc(func, machine("avx2"))
    data = np.random.default_rng(0).standard_normal((1, 4, 6, 9)).astype("float32")
    got = run_primfunc(scheduled, [data], [1, 4, 6, 12], "float32", "avx2")
    np.testing.assert_array_equal(got, np.pad(data, [(0, 0)] * 3 + [(1, 2)]))
    assert "if_then_else" not in _lowered(scheduled)


def test_thousands_of_parts_stay_one_loop() -> None:
    parts = te.placeholder(extents(2, 8000), "float32", name="x")
    chosen = te.compute(
        extents(2, 8000),
        lambda y, c: sum(tirx.if_then_else(c < at, parts[y, c], 0.0) for at in range(1, 3000)),
        name="chosen",
    )
    sch = Schedule(tvm.IRModule({"main": te.create_prim_func([parts, chosen])}))
    assert seams_of(sch, top_blocks(sch)[0]) == []
