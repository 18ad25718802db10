"""Move changes of layout down through element-wise operators, to where two of them cancel.

A value that was made as planes and turned to NHWC is turned again by the next reader that wants planes. What lies
between, a bias, an activation, a residual addition, is as well computed on the planes, where it fuses behind the
operator that made them. The pass that puts such turns into the graph uses these rules beside its own.
"""

from collections.abc import Callable

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from .graph import CallRewriter, op_name
from .layout_rules import ELEMENTWISE

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def sink_rules() -> dict[str, Callable]:
    """Rules for `rewrite_calls`: NHWC ← NCHW goes below element-wise operators; its inverse then undoes it."""
    return dict.fromkeys(ELEMENTWISE, _elementwise) | {"permute_dims": _permute_dims}


def planes_of(rewriter: CallRewriter, expr: relax.Expr) -> relax.Expr:
    """The NHWC value ``expr`` as planes: what it was turned from, or turned now."""
    value = rewriter.definition(expr)
    if _axes(value) == TO_LAST:
        return value.args[0]
    return rewriter.builder_.emit(relax.op.permute_dims(expr, TO_FIRST))


def _axes(call: relax.Expr) -> list[int] | None:
    if op_name(call) != "permute_dims" or call.attrs.axes is None:
        return None
    return [int(axis) for axis in call.attrs.axes]


def _permute_dims(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    inner, outer = rewriter.definition(call.args[0]), _axes(call)
    first = _axes(inner)
    if outer is None or first is None or [first[axis] for axis in outer] != list(range(len(outer))):
        return None
    return inner.args[0]


def _elementwise(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    operands = [_planes(rewriter, arg) for arg in call.args]
    turned = [arg for arg in call.args if _axes(rewriter.definition(arg)) == TO_LAST]
    if not turned or any(operand is None for operand in operands):
        return None
    on_planes = rewriter.emit(relax.Call(call.op, operands, call.attrs, call.ty_args), like=call)
    return relax.op.permute_dims(on_planes, TO_LAST)


def _planes(rewriter: CallRewriter, arg: relax.Expr) -> relax.Expr | None:
    """``arg`` as it stands beside planes, ``None`` where that would take another transpose."""
    value = rewriter.definition(arg)
    if _axes(value) == TO_LAST:
        return value.args[0]
    if not isinstance(arg, GenericConst):
        return None
    array = arg.value.numpy()
    if array.size == 1 or array.ndim > 4:
        return arg if array.size == 1 else None
    full = array.reshape((1,) * (4 - array.ndim) + array.shape)
    return relax.const(np.ascontiguousarray(full.transpose(TO_FIRST)))
