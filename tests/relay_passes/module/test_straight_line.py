"""The entry function read off Relax, and run by NumPy as it says."""

import numpy as np
import pytest
import tvm
from tvm import relax, te

from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.module.straight_line import (
    KernelCall,
    NotStraightError,
    Place,
    StraightLine,
    straight_line,
)

ROWS, COLUMNS = 4, 8
BYTES = 4 * ROWS * COLUMNS
SHAPE = (ROWS, COLUMNS)


def double(x: te.Tensor) -> te.Tensor:
    return te.compute(x.shape, lambda *at: x[at] * 2.0, name="double")


def add(x: te.Tensor, y: te.Tensor) -> te.Tensor:
    return te.compute(x.shape, lambda *at: x[at] + y[at], name="add")


def _line(body, inputs: int = 1, shape=SHAPE) -> StraightLine:
    """What ``main`` does, whose results ``body(builder, *inputs)`` emits."""
    bb = relax.BlockBuilder()
    params = [relax.Var(f"x{i}", relax.TensorType(shape, "float32")) for i in range(inputs)]
    with bb.function("main", params):
        with bb.dataflow():
            result = bb.emit_output(body(bb, *params))
        bb.emit_func_output(result)
    passes = [*pipeline.plan_weights(), *pipeline.lower_calls()]
    return straight_line(tvm.transform.Sequential(passes)(bb.get())["main"])


def _doubled(bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
    return bb.emit(bb.call_te(double, x, primfunc_name_hint="double"))


INPUT, OUTPUT = Place("input", 0), Place("output", 0)


def test_a_chain() -> None:
    line = _line(lambda bb, x: _doubled(bb, _doubled(bb, _doubled(bb, x))))
    first, second = Place("workspace", 0), Place("workspace", BYTES)
    assert [call.arguments for call in line.calls] == [(INPUT, first), (first, second), (second, OUTPUT)]
    assert line.workspace_bytes == 2 * BYTES
    assert line.copies == ()


def test_one_call_needs_no_workspace() -> None:
    line = _line(_doubled)
    assert line == StraightLine((KernelCall("double", (INPUT, OUTPUT)),), (), 0)


def test_memory_of_what_is_read_later_is_kept() -> None:
    def body(bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
        early = _doubled(bb, x)
        late = _doubled(bb, _doubled(bb, early))
        return bb.emit(bb.call_te(add, early, late, primfunc_name_hint="add"))

    line = _line(body)
    early = line.calls[0].arguments[1]
    assert line.calls[-1].arguments[0] == early
    assert all(early not in call.arguments[1:] for call in line.calls[1:])


def test_weights_by_their_number() -> None:
    weights = [np.full(SHAPE, i, "float32") for i in range(2)]

    def body(bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
        for weight in (*weights, weights[0]):
            x = bb.emit(bb.call_te(add, x, relax.const(weight), primfunc_name_hint="add"))
        return x

    assert [call.arguments[1] for call in _line(body).calls] == [
        Place("weight", 0),
        Place("weight", 1),
        Place("weight", 0),
    ]


def test_a_view_is_the_memory_it_views() -> None:
    def body(bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
        flat = bb.emit(bb.call_te(tvm.topi.reshape, x, (ROWS * COLUMNS,), primfunc_name_hint="reshape"))
        return _doubled(bb, flat)

    assert _line(body).calls == (KernelCall("double", (INPUT, OUTPUT)),)


def test_results_that_are_no_kernels_own_are_copied() -> None:
    def body(bb: relax.BlockBuilder, x: relax.Expr, y: relax.Expr) -> relax.Expr:
        z = _doubled(bb, x)
        return relax.Tuple([z, y, z, relax.const(np.ones(SHAPE, "float32"))])

    line = _line(body, inputs=2)
    assert line.calls == (KernelCall("double", (INPUT, OUTPUT)),)
    assert line.copies == (
        (Place("input", 1), 1, BYTES),
        (OUTPUT, 2, BYTES),
        (Place("weight", 0), 3, BYTES),
    )


def test_an_output_that_is_read_again() -> None:
    def body(bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
        first = _doubled(bb, x)
        return relax.Tuple([first, _doubled(bb, first)])

    assert [call.arguments for call in _line(body).calls] == [(INPUT, OUTPUT), (OUTPUT, Place("output", 1))]


def test_buffers_of_functions_lie_where_nothing_else_does() -> None:
    passes = [*pipeline.plan_weights(), *pipeline.lower_calls()]
    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    with bb.function("main", [x]):
        with bb.dataflow():
            y = bb.emit(bb.call_te(add, _doubled(bb, x), x, primfunc_name_hint="add"))
            result = bb.emit_output(_doubled(bb, y))
        bb.emit_func_output(result)
    main = tvm.transform.Sequential(passes)(bb.get())["main"]
    line = straight_line(main, {"add": 4 * BYTES})
    first, add_call, last = line.calls
    assert (first.scratch, last.scratch) == (None, None)
    assert add_call.scratch is not None
    tensors = [place.at for place in add_call.arguments if place.kind == "workspace"]
    assert len(tensors) == 2
    assert all(at + BYTES <= add_call.scratch or add_call.scratch + 4 * BYTES <= at for at in tensors)
    assert line.workspace_bytes == 6 * BYTES
    assert straight_line(main).workspace_bytes == 2 * BYTES


def test_dynamic_shapes_need_a_virtual_machine() -> None:
    with pytest.raises(NotStraightError, match="shapes are dynamic"):
        _line(_doubled, shape=(tvm.tirx.Var("n", "int64"), COLUMNS))


def test_a_scalar_constant_needs_a_virtual_machine() -> None:
    with pytest.raises(NotStraightError, match="a scalar constant is passed on"):
        _line(lambda bb, x: relax.Tuple([_doubled(bb, x), relax.const(np.float32(2))]))


def test_a_function_of_the_runtime_needs_a_virtual_machine() -> None:
    def body(bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
        return bb.emit(relax.op.call_pure_packed("some.function", x, ty_args=x.ty))

    with pytest.raises(NotStraightError, match=r"some\.function is no compiled function"):
        _line(body)
