"""Have the memory between the kernels of one function planned with everything else.

A function of several kernels would take it from TVM's pool at each call. A CUDA graph launches the kernels again with
the addresses of its capture, but the pool gives a page up for a larger one, which another model may need. Then a graph
would write to memory that is not its own.
"""

from __future__ import annotations

from typing import NamedTuple

import tvm
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.s_tir import SBlock, SBlockRealize


@tvm.transform.module_pass(opt_level=0, name="PlanWorkspaces")
class PlanWorkspaces:
    """What functions for GPUs allocate of constant size becomes results that nobody reads, in front of their own."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Return the module with those functions and calls of them replaced."""
        found = {
            var: workspaces
            for var, func in mod.functions.items()
            if isinstance(func, tirx.PrimFunc) and (workspaces := _workspaces(func))
        }
        if not found:
            return mod
        others = {var: func for var, func in mod.functions.items() if var not in found}
        lifter = _Lifter(tvm.IRModule(others, attrs=mod.attrs))
        for var, workspaces in found.items():
            lifter.replace(var, _with_parameters(mod[var], workspaces), workspaces)
        for var, func in others.items():
            if isinstance(func, relax.Function):
                lifter.builder_.update_func(var, lifter.visit_expr(func))
        return lifter.builder_.get()


class _Changed(NamedTuple):
    """What is called instead of a function, and what else that one writes."""

    var: tvm.ir.GlobalVar
    workspaces: list[relax.TensorType]


def _workspaces(func: tirx.PrimFunc) -> list[tirx.Buffer]:
    target = func.attrs.get("target") if func.attrs else None
    if target is None or target.kind.name != "cuda" or not hasattr(func.body, "block"):
        return []
    return [buffer for buffer in func.body.block.alloc_buffers if _is_planned(buffer)]


def _is_planned(buffer: tirx.Buffer) -> bool:
    return buffer.scope() == "global" and all(isinstance(n, tirx.IntImm) for n in buffer.shape)


def _with_parameters(func: tirx.PrimFunc, workspaces: list[tirx.Buffer]) -> tirx.PrimFunc:
    """``func`` with ``workspaces`` in front of its result, instead of allocating them."""
    realize, root = func.body, func.body.block
    kept = [buffer for buffer in root.alloc_buffers if not _is_planned(buffer)]
    block = SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint, root.body, root.init, kept, root.match_buffers,
        root.annotations,
    )  # fmt: skip
    body = SBlockRealize(realize.iter_values, realize.predicate, block)
    *inputs, result = func.params
    return tirx.PrimFunc([*inputs, *workspaces, result], body, func.ret_type, func.attrs)


@mutator
class _Lifter(PyExprMutator):
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self._changed: dict[tvm.ir.GlobalVar, _Changed] = {}

    def replace(self, var: tvm.ir.GlobalVar, func: tirx.PrimFunc, workspaces: list[tirx.Buffer]) -> None:
        """Have ``func`` called instead of ``var``; a variable knows its function's type, so that it is another one."""
        types = [relax.TensorType(buffer.shape, str(buffer.dtype)) for buffer in workspaces]
        self._changed[var] = _Changed(self.builder_.add_func(func, var.name_hint), types)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = super().visit_call_(call)
        if call.op != tvm.ir.Op.get("relax.call_tir") or call.args[0] not in self._changed:
            return call
        var, workspaces = self._changed[call.args[0]]
        both = relax.call_tir(var, call.args[1], [*workspaces, call.ty_args[0]])
        return relax.TupleGetItem(self.builder_.emit(both), len(workspaces))
