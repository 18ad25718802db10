"""Move changes of layout down through element-wise operators, to where two of them cancel.

A value that was made planar (NCHW) and turned to NHWC is turned again by the next reader that wants it so. What lies
between, a bias, an activation, a residual addition, is as well computed on the planar one, where it fuses behind the
operator that made it. The pass that puts such turns into the graph uses these rules beside its own.
"""

from collections.abc import Callable

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from ..graph.rewrite import CallRewriter, op_name
from .layout_rules import ELEMENTWISE

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class Planar:
    """The planar values behind NHWC ones of one graph, and the rules that keep to them.

    A turn NHWC ← NCHW goes below element-wise operators; the inverse of a turn undoes it.
    """

    def __init__(self) -> None:
        self.turned: dict[relax.Expr, relax.Expr] = {}

    def rules(self) -> dict[str, Callable]:
        """For `rewrite_calls`."""
        return dict.fromkeys(ELEMENTWISE, self._elementwise) | {"permute_dims": _undo}

    def of(self, rewriter: CallRewriter, expr: relax.Expr) -> relax.Expr:
        """The NHWC value ``expr``, planar: what it was turned from, or turned now, once."""
        known = self._known(rewriter, expr)
        if known is None:
            known = rewriter.builder_.emit(relax.op.permute_dims(expr, TO_FIRST))
            self.turned[expr] = known
        return known

    def _known(self, rewriter: CallRewriter, expr: relax.Expr) -> relax.Expr | None:
        value = rewriter.definition(expr)
        return value.args[0] if _axes(value) == TO_LAST else self.turned.get(expr)

    def _elementwise(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        if all(_axes(rewriter.definition(arg)) != TO_LAST for arg in call.args):
            return None
        operands = [self._operand(rewriter, arg) for arg in call.args]
        if any(operand is None for operand in operands):
            return None
        on_planes = rewriter.emit(relax.Call(call.op, operands, call.attrs, call.ty_args), like=call)
        return relax.op.permute_dims(on_planes, TO_LAST)

    def _operand(self, rewriter: CallRewriter, arg: relax.Expr) -> relax.Expr | None:
        """``arg`` as it stands beside planes; ``None`` where its own turn would come on top of others."""
        if isinstance(arg, GenericConst):
            return _constant(arg)
        known = self._known(rewriter, arg)
        # What nobody else reads is turned instead of the planes beside it.
        alone = isinstance(arg, relax.Var) and len(arg.ty.shape) == 4 and rewriter.uses[arg] <= 1
        return self.of(rewriter, arg) if known is None and alone else known


def _axes(call: relax.Expr) -> list[int] | None:
    if op_name(call) != "permute_dims" or call.attrs.axes is None:
        return None
    return [int(axis) for axis in call.attrs.axes]


def _undo(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    inner, outer = rewriter.definition(call.args[0]), _axes(call)
    first = _axes(inner)
    if outer is None or first is None or [first[axis] for axis in outer] != list(range(len(outer))):
        return None
    return inner.args[0]


def _constant(arg: GenericConst) -> relax.Expr | None:
    array = arg.value.numpy()
    if array.size == 1 or array.ndim > 4:
        return arg if array.size == 1 else None
    full = array.reshape((1,) * (4 - array.ndim) + array.shape)
    return relax.const(np.ascontiguousarray(full.transpose(TO_FIRST)))
