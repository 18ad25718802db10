"""What the source calls the result of each function that ``main`` calls, carried through fusion.

``FuseOps`` renames every variable. So each call of a PrimFunc is marked before it, by an attribute of a function of its
own, and the marks are collected behind it: the result of a fused function is that of the last call in it.
"""

import json

import tvm
from tvm import relax, tirx

from ..graph.rewrite import CallRewriter, entry_functions, rewrite_calls

MARK = "fastconv.value"
"""PrimFunc attribute: JSON of a `SourceValue`."""

RESULTS = "fastconv.results"
"""Module attribute: JSON of function to list with the `SourceValue` of each of its calls in order, or null."""


@tvm.transform.module_pass(opt_level=0, name="MarkValues")
class MarkValues:
    """Give every call whose result stands for a value of the source a function of its own, marked with it."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``, in which everything is a ``call_tir``."""
        return rewrite_calls(mod, {"call_tir": _marked})


def _marked(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    value = None if rewriter.binding is None else rewriter.values.get(rewriter.binding)
    if value is None:
        return None
    module = rewriter.builder_.get()
    func = module[call.args[0]].with_attr(MARK, value.to_json())
    var = rewriter.builder_.add_func(func, call.args[0].name_hint)
    return relax.Call(call.op, [var, *call.args[1:]], call.attrs, call.ty_args, call.span)


@tvm.transform.module_pass(opt_level=0, name="CollectValues")
class CollectValues:
    """Take the marks away and list them in the order of the calls of each function; see `marks_of_calls`."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``mod``, whose functions call fused functions and PrimFuncs."""
        marks = {var.name_hint: _marks(mod, func) for var, func in entry_functions(mod).items()}
        mod = mod.clone()
        for var, func in mod.functions.items():
            if isinstance(func, tirx.PrimFunc) and func.attrs and MARK in func.attrs:
                mod.update_func(var, func.without_attr(MARK))
        return mod.with_attr(RESULTS, json.dumps(marks))


def _marks(mod: tvm.IRModule, func: relax.Function) -> list[str | None]:
    marks = []
    for block in func.body.blocks:
        for binding in block.bindings:
            if inner := tir_calls(mod, binding.value):
                attrs = mod[inner[-1].args[0]].attrs or {}
                single = isinstance(binding.var.ty, relax.TensorType)
                marks.append(str(attrs[MARK]) if single and MARK in attrs else None)
    return marks


def marks_of_calls(mod: tvm.IRModule, function: str) -> list[str | None]:
    """JSON of the source's value of each call of ``function``, in order."""
    return json.loads(mod.attrs[RESULTS])[function]


def tir_calls(mod: tvm.IRModule, value: relax.Expr) -> list[relax.Call]:
    """The calls of PrimFuncs that ``value`` makes, itself or in the functions that it calls."""
    if not isinstance(value, relax.Call):
        return []
    if value.op == tvm.ir.Op.get("relax.call_tir"):
        return [value]
    if not isinstance(value.op, tvm.ir.GlobalVar):
        return []
    blocks = mod[value.op].body.blocks
    return [call for block in blocks for binding in block.bindings for call in tir_calls(mod, binding.value)]
