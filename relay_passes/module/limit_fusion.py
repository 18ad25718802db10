"""Fused expressions of a bounded size.

Element-wise operators are fused by writing each into the next one's expression. One that reads its operand many times
(a polynomial) repeats it as often, so three of them in a row would be thousands of times as large as one, and take
minutes to compile. Where the expression would become too large or too deep, a function of its own begins.
"""

from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir.expr import TensorLoad

from ..graph.operator_call import OPAQUE, OUT_ELEMWISE_FUSABLE
from ..graph.rewrite import CallRewriter, op_name, rewrite_calls

LIMIT = 1000
"""Loads of an expression: two SiLUs in a row have 169; three have 2 197 and take a second to compile."""

DEPTH = 64
"""Operators in a row: TVM's visitors recurse, and some of them are Python's."""

INJECTIVE, REDUCTION = 2, 3
"""Of TVM's ``OpPatternKind``."""


@tvm.transform.module_pass(opt_level=0, name="LimitFusion")
class LimitFusion:
    """Mark the functions that must not be fused with what they read; behind ``AnnotateTIROpPattern``."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``, in which everything is a ``call_tir``."""
        ends = {
            var
            for func in mod.functions.values()
            if isinstance(func, relax.Function)
            for var in _ends_of_expressions(mod, func)
        }

        def cut(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
            if rewriter.binding not in ends:
                return None
            func = mod[call.args[0]]
            # Neither is fused with what it reads.
            pattern = OUT_ELEMWISE_FUSABLE if _pattern(func) <= INJECTIVE else OPAQUE
            var = rewriter.builder_.add_func(func.with_attr("op_pattern", pattern), call.args[0].name_hint)
            return relax.Call(call.op, [var, *call.args[1:]], call.attrs, call.ty_args, call.span)

        return rewrite_calls(mod, {"call_tir": cut}) if ends else mod


@dataclass(frozen=True)
class _Expression:
    """What stands for a value where it is read."""

    loads: int = 1
    depth: int = 0


def _ends_of_expressions(mod: tvm.IRModule, main: relax.Function) -> set[relax.Var]:
    """The variables of ``main`` whose operands must be stored before."""
    expressions: dict[relax.Var, _Expression] = {}
    ends = set()
    for block in main.body.blocks:
        for binding in block.bindings:
            call = binding.value
            if op_name(call) != "call_tir" or _pattern(mod[call.args[0]]) > REDUCTION:
                continue
            operands = [expressions.get(arg, _Expression()) for arg in call.args[1].fields]
            reads = _reads(mod[call.args[0]], len(operands))
            whole = _Expression(
                sum(count * each.loads for count, each in zip(reads, operands, strict=True)),
                1 + max((each.depth for each in operands), default=0),
            )
            if whole.loads > LIMIT or whole.depth > DEPTH:
                ends.add(binding.var)
                whole = _Expression(sum(reads), 1)
            if _pattern(mod[call.args[0]]) <= INJECTIVE:
                expressions[binding.var] = whole
    return ends


def _pattern(func: tirx.PrimFunc) -> int:
    return int(func.attrs["op_pattern"])


def _reads(func: tirx.PrimFunc, count: int) -> list[int]:
    """How often the expressions of ``func`` read each of its operands, its first ``count`` parameters."""
    operands, reads = func.params[:count], [0] * count

    def note(load: TensorLoad) -> None:
        for place, operand in enumerate(operands):
            reads[place] += load.source.same_as(operand)

    tvm_ffi.structural_walk(func.body, (TensorLoad, note))
    return reads
