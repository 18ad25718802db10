"""Straight-through estimators leave ``(f − g) + g`` in a graph; in inference that is ``f``.

Training code writes ``f.detach() − g.detach() + g`` or ``g + (f − g).detach()`` for a value that is f going forward and
has g's gradient going back (Bengio et al., arXiv:1308.3432). Evaluated in floats, the two levels of a binarized weight
become many, so the idiom goes before any constant is folded.
"""

import tvm
import tvm_ffi
from tvm import relax

from .graph import CallRewriter, op_name, rewrite_calls


@tvm.transform.module_pass(opt_level=0, name="CanonicalizeStraightThrough")
class CanonicalizeStraightThrough:
    """``(f − g) + g`` → ``f``. Equal subexpressions must have been merged."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        return rewrite_calls(mod, {"add": _cancel})


def _cancel(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    for difference, again in (call.args, reversed(call.args)):
        value = rewriter.definition(difference)
        if op_name(value) != "subtract":
            continue
        forward, backward = value.args
        if _same(backward, again) and tvm_ffi.structural_equal(forward.ty, call.ty):
            return forward
    return None


def _same(a: relax.Expr, b: relax.Expr) -> bool:
    return a.same_as(b) or (not isinstance(a, relax.Var) and tvm_ffi.structural_equal(a, b))
