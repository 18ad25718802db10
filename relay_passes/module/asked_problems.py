"""Which operators a fused module runs, each with the problem that it was asked: what there is to tune."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import tvm
from tvm import relax, tirx

from tvm_fastconv.topi.schedules.loops import anchors_of
from tvm_fastconv.typed_json import one_line

from .collect_layers import recorded_calls

OP, PROBLEM = "fastconv.op", "fastconv.problem"


def asked_problems(mod: tvm.IRModule) -> Counter[tuple[str, str]]:
    """Operator and key of the problem, and how many calls of ``main`` in a fused module run it.

    Operators that were fused into one function are one ``chain``.
    """
    functions = {
        var.name_hint: func for var, func in mod.functions.items() if isinstance(func, tirx.PrimFunc)
    }
    asked = {name: _asked(func) for name, func in functions.items()}
    found = [asked[call.function] for call in recorded_calls(mod)]
    return Counter(question for question in found if question is not None)


def asked_by_layer(mod: tvm.IRModule) -> dict[str, tuple[str, str]]:
    """Name of a layer → operator and key of the problem that run it, in a fused module."""
    asked = {
        var.name_hint: _asked(func) for var, func in mod.functions.items() if isinstance(func, tirx.PrimFunc)
    }
    found = [(call.layers[-1]["name"], asked[call.function]) for call in recorded_calls(mod) if call.layers]
    return {name: question for name, question in found if question is not None}


def bytes_touched(mod: tvm.IRModule) -> int:
    """Of constants and results of ``main``'s calls; symbolic sizes count as 1."""
    total = 0
    for block in mod["main"].body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Call) and value.op == tvm.ir.Op.get("relax.call_tir"):
                total += _bytes(binding.var.ty)
                total += sum(_bytes(arg.ty) for arg in value.args[1].fields if not isinstance(arg, relax.Var))
    return total


def _bytes(ty: Any) -> int:
    if isinstance(ty, relax.TupleType):
        return sum(map(_bytes, ty.fields))
    sizes = [int(n) if isinstance(n, tirx.IntImm) else 1 for n in ty.shape or ()]
    return math.prod(sizes) * tvm.DataType(str(ty.dtype)).itemsize


def _asked(func: tirx.PrimFunc) -> tuple[str, str] | None:
    attrs: Mapping[str, Any] = func.attrs or {}
    if OP in attrs:
        return str(attrs[OP]), str(attrs[PROBLEM])
    sch = tvm.s_tir.Schedule(tvm.IRModule({"main": func}))
    notes = [sch.get(anchor).annotations for anchor in anchors_of(sch)]
    stages = [[str(each[OP]), str(each[PROBLEM])] for each in notes if OP in each]
    if len(stages) > 1:
        return "chain", one_line([[op, json.loads(problem)] for op, problem in stages])
    return (stages[0][0], stages[0][1]) if stages else None
