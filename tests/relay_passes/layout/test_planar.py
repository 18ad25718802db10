from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_fastconv.relay_passes.graph.rewrite import rewrite_calls
from tvm_fastconv.relay_passes.layout.planar import Planar

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
BIAS = np.arange(5, dtype=np.float32)
Build = Callable[[relax.BlockBuilder, relax.Var, relax.Var], relax.Expr]


def _module(build: Build) -> tvm.IRModule:
    """A function of planes (1, 5, 3, 4) and of an NHWC value (1, 3, 4, 5)."""
    planes = relax.Var("planes", relax.TensorType((1, 5, 3, 4), "float32"))
    other = relax.Var("other", relax.TensorType((1, 3, 4, 5), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [planes, other]):
        with builder.dataflow():
            result = builder.emit_output(build(builder, planes, other))
        builder.emit_func_output(result)
    return builder.get()


def _turn(bb: relax.BlockBuilder, x: relax.Expr, axes: list[int]) -> relax.Var:
    return bb.emit(relax.op.permute_dims(x, axes))


def _between(bb: relax.BlockBuilder, planes: relax.Var, _other: relax.Var) -> relax.Expr:
    shifted = bb.emit(relax.op.add(_turn(bb, planes, TO_LAST), relax.const(BIAS.reshape(1, 1, 1, 5))))
    clipped = bb.emit(relax.op.nn.relu(bb.emit(relax.op.multiply(shifted, relax.const(2.0)))))
    return _turn(bb, clipped, TO_FIRST)


def _between_after(bb: relax.BlockBuilder, planes: relax.Var, _other: relax.Var) -> relax.Expr:
    shifted = bb.emit(relax.op.add(planes, relax.const(BIAS.reshape(1, 5, 1, 1))))
    return relax.op.nn.relu(bb.emit(relax.op.multiply(shifted, relax.const(2.0))))


def _vector(bb: relax.BlockBuilder, planes: relax.Var, _other: relax.Var) -> relax.Expr:
    return relax.op.add(_turn(bb, planes, TO_LAST), relax.const(BIAS))


def _vector_after(bb: relax.BlockBuilder, planes: relax.Var, _other: relax.Var) -> relax.Expr:
    shifted = bb.emit(relax.op.add(planes, relax.const(BIAS.reshape(1, 5, 1, 1))))
    return relax.op.permute_dims(shifted, TO_LAST)


def _both(bb: relax.BlockBuilder, planes: relax.Var, other: relax.Var) -> relax.Expr:
    return relax.op.add(_turn(bb, planes, TO_LAST), other)


def _both_after(bb: relax.BlockBuilder, planes: relax.Var, other: relax.Var) -> relax.Expr:
    return relax.op.permute_dims(bb.emit(relax.op.add(planes, _turn(bb, other, TO_FIRST))), TO_LAST)


@pytest.mark.parametrize(
    ("before", "after"), [(_between, _between_after), (_vector, _vector_after), (_both, _both_after)]
)
def test_turns_sink_and_cancel(before: Build, after: Build) -> None:
    got = rewrite_calls(_module(before), Planar().rules())
    want = relax.transform.CanonicalizeBindings()(_module(after))
    tvm.ir.assert_structural_equal(relax.transform.CanonicalizeBindings()(got), want)


def _read_twice(bb: relax.BlockBuilder, planes: relax.Var, other: relax.Var) -> relax.Expr:
    total = bb.emit(relax.op.add(_turn(bb, planes, TO_LAST), other))
    return relax.op.multiply(total, other)


def _other_turn(bb: relax.BlockBuilder, planes: relax.Var, _other: relax.Var) -> relax.Expr:
    return relax.op.nn.relu(_turn(bb, planes, [0, 3, 2, 1]))


@pytest.mark.parametrize("build", [_read_twice, _other_turn])
def test_what_would_take_more_turns_is_left_alone(build: Build) -> None:
    mod = _module(build)
    tvm.ir.assert_structural_equal(rewrite_calls(mod, Planar().rules()), mod)
