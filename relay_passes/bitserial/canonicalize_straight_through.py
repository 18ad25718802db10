"""Straight-through estimators leave ``(f − g) + g`` or ``f + (g − g)`` in a graph; in inference that is ``f``.

Training code writes ``f.detach() − g.detach() + g``, ``g + (f − g).detach()`` or ``f.detach() + (g − g.detach())`` for
a value that is f going forward and has g's gradient going back (Bengio et al., arXiv:1308.3432). Evaluated in floats,
the first two make many levels of the two of a binarized weight, so the idiom goes before any constant is folded.
``(x − C) + C`` with one number C rounds x, and stays.
"""

import tvm
import tvm_ffi
from tvm import relax

from ..graph.rewrite import CallRewriter, constant_array, op_name, rewrite_calls
from ..graph.scalar_steps import uniform_value


@tvm.transform.module_pass(opt_level=0, name="CanonicalizeStraightThrough")
class CanonicalizeStraightThrough:
    """``(f − g) + g`` and ``f + (g − g)`` → ``f``. Equal subexpressions must have been merged."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        return rewrite_calls(mod, {"add": _cancel})


def _cancel(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    for difference, again in (call.args, reversed(call.args)):
        value = rewriter.definition(difference)
        if op_name(value) != "subtract":
            continue
        forward, backward = value.args
        if _same(forward, backward) and tvm_ffi.structural_equal(again.ty, call.ty):
            return again
        if not _same(backward, again) or _rounds(rewriter, forward, again):
            continue
        if tvm_ffi.structural_equal(forward.ty, call.ty):
            return forward
    return None


def _same(a: relax.Expr, b: relax.Expr) -> bool:
    return a.same_as(b) or (not isinstance(a, relax.Var) and tvm_ffi.structural_equal(a, b))


def _rounds(rewriter: CallRewriter, forward: relax.Expr, again: relax.Expr) -> bool:
    """Whether ``again`` is a number, or a constant that has no gradient to give to what is computed from the inputs."""
    backward = rewriter.definition(again)
    if uniform_value(rewriter, backward) is not None:
        return True
    return constant_array(backward) is not None and not _is_constant(rewriter, forward)


def _is_constant(rewriter: CallRewriter, expr: relax.Expr) -> bool:
    value = rewriter.definition(expr)
    if isinstance(value, relax.Call):
        return all(_is_constant(rewriter, arg) for arg in value.args)
    return not isinstance(value, relax.Var)
