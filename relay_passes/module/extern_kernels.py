"""Call compiled functions by name, so that they may be compiled apart from the virtual machine's code."""

import tvm
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator


@tvm.transform.module_pass(opt_level=0, name="ExternKernels")
class ExternKernels:
    """Replace calls of the module's PrimFuncs by calls of external functions of their names, and drop them."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Return the module without PrimFuncs."""
        calls = _ExternCalls(mod)
        kept = {}
        for var, func in mod.functions.items():
            if isinstance(func, relax.Function):
                kept[var] = calls.visit_expr(func)
        return tvm.IRModule(kept, attrs=mod.attrs)


@mutator
class _ExternCalls(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if isinstance(call.op, tvm.ir.GlobalVar) and isinstance(self.builder_.get()[call.op], tirx.PrimFunc):
            return relax.Call(relax.ExternFunc(call.op.name_hint), call.args, None, [relax.TupleType([])])
        return call
