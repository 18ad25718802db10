"""After fusion: take the layer's data out of each function, so that equal layers share one, and note who calls what."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_fastconv.topi.schedules.loops import anchors_of

from ..graph.layer_notes import notes_of, with_notes
from ..graph.rewrite import entry_functions
from ..graph.source_values import SourceValue
from .follow_values import marks_of_calls

CALLS = "fastconv.calls"
"""Module attribute: JSON of function to list of `RecordedCall` fields, in call order."""


@dataclass(frozen=True)
class RecordedCall:
    """A call that ``main`` makes.

    Attributes
    ----------
    function : str
    layers : list of dict
        Report fields of its layers. A chain has several, the last of which the others are for; what belongs to no
        layer has none.
    reads : list of int
        The calls whose results it reads, by their place.
    result : SourceValue, optional
        What its result stands for.
    inputs : list of int
        The parameters that it reads, by their place.
    is_output : bool
        Whether its result is one of the function's.
    """

    function: str
    layers: list[dict[str, Any]]
    reads: list[int]
    result: SourceValue | None
    inputs: list[int]
    is_output: bool


@tvm.transform.module_pass(opt_level=0, name="CollectLayers")
class CollectLayers:
    """Strip layer annotations, merge functions that are equal without them, and record who calls them."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``mod``; its attribute `CALLS` then holds what `recorded_calls` returns."""
        mod = mod.clone()
        layers: dict[str, list[dict[str, Any]]] = {}
        notes = notes_of(mod)
        merged: dict[str, tvm.ir.GlobalVar] = {}
        firsts: dict[int, list[tuple[tvm.ir.GlobalVar, tirx.PrimFunc]]] = {}
        for var, func in mod.functions.items():
            if not isinstance(func, tirx.PrimFunc):
                continue
            func, found = _strip_layers(func)
            layers[var.name_hint] = [with_notes(layer, notes) for layer in found]
            same = firsts.setdefault(tvm_ffi.structural_hash(func, map_free_vars=True), [])
            twin = next((v for v, f in same if tvm_ffi.structural_equal(f, func, map_free_vars=True)), None)
            if twin is None:
                same.append((var, func))
                mod.update_func(var, func)
            merged[var.name_hint] = twin or var
        redirect = _Redirect(mod, merged)
        calls: dict[str, list[tuple]] = {}
        for var, func in entry_functions(mod).items():
            results = marks_of_calls(mod, var.name_hint)
            calls[var.name_hint] = [
                (merged[name].name_hint, layers[name], reads, result, inputs, is_output)
                for (name, reads, inputs, is_output), result in zip(_called(func), results, strict=True)
            ]
            redirect.builder_.update_func(var, redirect.visit_expr(func))
        mod = relax.transform.DeadCodeElimination()(redirect.builder_.get())
        return mod.with_attr(CALLS, json.dumps(calls))


def recorded_calls(mod: tvm.IRModule, function: str = "main") -> list[RecordedCall]:
    """Every call of ``function``, in order."""
    return [
        RecordedCall(function, layers, reads, result and SourceValue.from_json(result), inputs, is_output)
        for function, layers, reads, result, inputs, is_output in json.loads(mod.attrs[CALLS])[function]
    ]


def _strip_layers(func: tirx.PrimFunc) -> tuple[tirx.PrimFunc, list[dict[str, Any]]]:
    sch = tvm.s_tir.Schedule(tvm.IRModule({"main": func}))
    anchors = anchors_of(sch)
    if not anchors:
        return func, []
    layers = [json.loads(sch.get(anchor).annotations["fastconv.layer"]) for anchor in anchors]
    for anchor in anchors:
        sch.unannotate(anchor, "fastconv.layer")
    return sch.mod["main"].without_attr("global_symbol"), layers


def _called(func: relax.Function) -> list[tuple[str, list[int], list[int], bool]]:
    """(function, calls it reads, parameters it reads, whether it is a result) of each call in ``func``."""
    places: dict[relax.Var, int] = {}
    found: list[tuple[str, list[int], list[int]]] = []
    params = {param: place for place, param in enumerate(func.params)}
    for block in func.body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Call) and value.op == tvm.ir.Op.get("relax.call_tir"):
                args = list(value.args[1].fields)
                places[binding.var] = len(found)
                reads, inputs = ([known[arg] for arg in args if arg in known] for known in (places, params))
                found.append((value.args[0].name_hint, reads, inputs))
            elif isinstance(value, relax.TupleGetItem) and value.tuple_value in places:
                places[binding.var] = places[value.tuple_value]
    bound = {binding.var: binding.value for block in func.body.blocks for binding in block.bindings}

    def results(expr: relax.Expr) -> Iterator[int]:
        if expr in places:
            yield places[expr]
        elif isinstance(expr, relax.Tuple):
            for field in expr.fields:
                yield from results(field)
        elif expr in bound:
            yield from results(bound[expr])

    outputs = set(results(func.body.body))
    return [(*call, place in outputs) for place, call in enumerate(found)]


@mutator
class _Redirect(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, merged: dict[str, tvm.ir.GlobalVar]) -> None:
        super().__init__(mod)
        self.merged = merged

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if call.op != tvm.ir.Op.get("relax.call_tir"):
            return call
        return relax.Call(
            call.op, [self.merged[call.args[0].name_hint], *call.args[1:]], call.attrs, call.ty_args
        )
