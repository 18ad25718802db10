"""Small questions that the passes ask of a Relax graph, and the one way in which they rewrite it."""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

import numpy as np
import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.expr_functor import PyExprMutator, mutator

from .layer_names import layer_name, with_layer_name
from .source_values import SourceValue, note_values, source_values


def op_name(expr: relax.Expr) -> str | None:
    """Name of the operator that ``expr`` calls, as ``"nn.conv2d"``; ``None`` for everything else."""
    if isinstance(expr, relax.Call) and isinstance(expr.op, tvm.ir.Op):
        return expr.op.name.removeprefix("relax.")
    return None


def constant_array(expr: relax.Expr) -> np.ndarray | None:
    """The value of a constant, ``None`` for anything that is computed."""
    return expr.value.numpy() if isinstance(expr, GenericConst) else None


def static_shape(expr: relax.Expr) -> tuple[int, ...] | None:
    """The shape of a tensor where all of it is known, else ``None``."""
    shape = getattr(expr.ty, "shape", None)
    if shape is None or not all(isinstance(extent, tvm.tirx.IntImm) for extent in shape):
        return None
    return tuple(int(extent) for extent in shape)


def channel_vector(array: np.ndarray, rank: int, axis: int) -> np.ndarray | None:
    """``array`` as a vector along ``axis`` of a tensor of ``rank``, or ``None`` if it varies along other axes."""
    if array.ndim > rank:
        return None
    full = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return full.reshape(-1) if all(n == 1 for i, n in enumerate(full.shape) if i != axis) else None


def along_channel(vector: np.ndarray, rank: int, axis: int) -> GenericConst:
    """A constant of ``rank`` dimensions that holds ``vector`` along ``axis``."""
    shape = [1] * rank
    shape[axis] = vector.size
    return relax.const(np.ascontiguousarray(vector.reshape(shape)))


def keep_name(new: relax.Expr, old: relax.Expr) -> relax.Expr:
    """``new`` with the layer name of ``old``, where both are calls."""
    name = layer_name(old)
    return with_layer_name(new, name) if name is not None and isinstance(new, relax.Call) else new


def count_uses(func: relax.Function) -> Counter:
    """How often each variable is read in ``func``, its result included."""
    uses: Counter = Counter()

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, relax.Var):
            uses[expr] += 1

    for block in func.body.blocks:
        for binding in block.bindings:
            relax.analysis.post_order_visit(binding.value, visit)
    relax.analysis.post_order_visit(func.body.body, visit)
    return uses


class Definitions(Protocol):
    """What recognisers ask of a graph: a `CallRewriter` that is rewriting it, or any other way of reading it."""

    def definition(self, expr: relax.Expr) -> relax.Expr:
        """What the variable ``expr`` is bound to, or ``expr`` itself."""


@mutator
class CallRewriter(PyExprMutator):
    """Rewrites the operator calls of a function, one at a time, in program order.

    A rule takes the rewriter and a call whose arguments are rewritten already, and returns what stands in its
    place: ``None`` where the call is none of its business.

    Attributes
    ----------
    values : dict
        What the variables stand for in the source, of the old graph and of the new one; see `source_values`.
    """

    def __init__(self, mod: tvm.IRModule, rules: dict[str, Callable]) -> None:
        super().__init__(mod)
        self.rules = rules
        self.uses: Counter = Counter()
        self.unnamed: Counter = Counter()
        self.binding: relax.Var | None = None
        self.values = source_values(mod)

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        """Note which variable the calls below are bound to."""
        self.binding = binding.var
        super().visit_var_binding_(binding)
        new = self.visit_expr(binding.var)
        if new not in self.uses:
            self.uses[new] = self.uses[binding.var]
        if (value := self.values.get(binding.var)) is not None:
            self._stands_for(new, value, binding.var.ty)

    def _stands_for(self, new: relax.Expr, value: SourceValue, ty: tvm.ir.Type) -> None:
        """Note ``value``, of type ``ty``, of ``new`` and of the variable it is only another name for."""
        while isinstance(new, relax.Var) and tvm_ffi.structural_equal(new.ty, ty):
            self.values.setdefault(new, value)
            new = self.lookup_binding(new)
            if isinstance(new, relax.TupleGetItem):
                parts = self.definition(new.tuple_value)
                new = parts.fields[new.index] if isinstance(parts, relax.Tuple) else None

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        """Rewrite the arguments of ``call``, then ``call`` itself."""
        call = self.visit_expr_post_order(call)
        rule = self.rules.get(op_name(call) or "")
        new = rule(self, call) if rule else None
        return call if new is None else new

    def definition(self, expr: relax.Expr) -> relax.Expr:
        """What the variable ``expr`` is bound to, or ``expr`` itself."""
        value = self.lookup_binding(expr) if isinstance(expr, relax.Var) else None
        return expr if value is None else value

    def fresh_name(self, op: str) -> str:
        """A layer name for a call that has none: the operator and a number."""
        self.unnamed[op] += 1
        return f"{op}_{self.unnamed[op]}"

    def emit(self, call: relax.Call, like: relax.Call) -> relax.Var:
        """Bind a new call under the layer name of ``like``."""
        return self.builder_.emit(keep_name(call, like))


def entry_functions(mod: tvm.IRModule) -> dict[tvm.ir.GlobalVar, relax.Function]:
    """The Relax functions of ``mod`` but for the pieces that fusion has made of them."""
    return {
        var: func
        for var, func in mod.functions.items()
        if isinstance(func, relax.Function) and not (func.attrs and func.attrs.get("Primitive"))
    }


def rewrite_calls(mod: tvm.IRModule, rules: dict[str, Callable]) -> tvm.IRModule:
    """Apply ``rules`` (operator name → rule) to every Relax function of ``mod`` and drop what nobody reads any more."""
    rewriter = CallRewriter(mod, rules)
    for var, func in mod.functions.items():
        if isinstance(func, relax.Function):
            rewriter.uses = count_uses(func)
            new = rewriter.visit_expr(func)
            rewriter.builder_.update_func(var, relax.analysis.remove_all_unused(new))
    return note_values(rewriter.builder_.get(), rewriter.values)
