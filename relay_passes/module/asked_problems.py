"""Which operators a fused module runs, each with the problem that it was asked: what there is to tune."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import tvm
from tvm import tirx

from tvm_fastconv.topi.schedules.loops import anchors_of
from tvm_fastconv.typed_json import one_line

from .collect_layers import recorded_calls

OP, PROBLEM = "fastconv.op", "fastconv.problem"


def asked_problems(mod: tvm.IRModule) -> Counter[tuple[str, str]]:
    """Operator and key of the problem, and how many calls of ``main`` in a fused module run it."""
    asked = problems_of_functions(mod)
    return Counter(asked[call.function] for call in recorded_calls(mod) if call.function in asked)


def problems_of_functions(mod: tvm.IRModule) -> dict[str, tuple[str, str]]:
    """Operator and key of the problem that each function of a fused module is about.

    Operators that were fused into one function are one ``chain``; a function without any of ours is left out.
    """
    functions = {
        var.name_hint: func for var, func in mod.functions.items() if isinstance(func, tirx.PrimFunc)
    }
    asked = {name: _asked(func) for name, func in functions.items()}
    return {name: question for name, question in asked.items() if question is not None}


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
