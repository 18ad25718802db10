"""Layers with sparse constant weights → lookups, exactly: LCNN's, behind a dictionary, and pruned ones of any origin.

Three ways compete by estimate: the sparse operator, the same layers dense, and for a dictionary the one dense
convolution that both are together. The sparse convolution and its dictionary are planar (NCHW); the changes of
layout that this puts around them move down to where they cancel (`layout.planar`).
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx

from tvm_fastconv.configs import Dense, Lookup, Method
from tvm_fastconv.topi.cycles import cheapest, on_one_footing
from tvm_fastconv.topi.lookup_conv2d import lookup_conv2d
from tvm_fastconv.topi.lookup_dense import lookup_dense
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.pointwise_planar import PointwiseProblem, pack_pointwise_weight, pointwise_planar

from ..graph.conv_call import extent, layer_report
from ..graph.layer_names import layer_name
from ..graph.layer_notes import LayerNotes
from ..graph.near_miss import NearMiss
from ..graph.operator_call import OPAQUE, annotations, known_sizes, primfunc_call
from ..graph.rewrite import CallRewriter, keep_name, op_name, rewrite_calls
from ..layout.planar import Planar
from .sparse_costs import estimates
from .sparse_layers import SparseLayer, sparse_layer


@tvm.transform.module_pass(opt_level=0, name="DispatchLookup")
class DispatchLookup:
    """Swap layers with sparse weights for lookups where those are faster.

    Parameters
    ----------
    planner : Planner
    methods : mapping, optional
        Layer name to what the user asked for: ``Dense`` layers stay, ``Lookup`` ones need not be faster.

    Raises
    ------
    MethodError
        A layer asked for cannot become lookups; the message names it and says why.
    """

    def __init__(self, planner: Planner, methods: Mapping[str, Method] | None = None) -> None:
        self.planner, self.methods = planner, methods or {}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        layers = _Layers(self.planner, self.methods)
        rules = {
            "nn.conv2d": layers.layer,
            "matmul": layers.layer,
            "nn.conv2d_transpose": layers.transposed,
        }
        return layers.notes.written_to(rewrite_calls(mod, layers.planar.rules() | rules))


class _Layers:
    """Rewrites the layers of one module, and notes what it leaves to the dense operators."""

    def __init__(self, planner: Planner, methods: Mapping[str, Method]) -> None:
        self.planner, self.methods = planner, methods
        self.notes = LayerNotes("become lookups")
        self.planar = Planar()

    def layer(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """Rule for ``nn.conv2d`` and ``matmul``."""
        name = layer_name(call) or ""
        method = self.methods.get(name)
        asked = method if isinstance(method, Lookup) else None
        layer = sparse_layer(rewriter, call, asked)
        if isinstance(layer, NearMiss):
            if asked is not None:
                self.notes.refuse(call, layer.reason)
            return None
        if isinstance(method, Dense):
            return None
        inner = layer_name(layer.dictionary) if layer.dictionary is not None else None
        if isinstance(self.methods.get(inner or ""), Dense):
            layer = replace(layer, dictionary=None, atoms=None, atom_padding=(0, 0, 0, 0))
        costs = on_one_footing(estimates(layer, self.planner))
        way = "lookup" if asked else cheapest(costs)
        reason = _reason(layer, way, costs)
        if layer.dictionary is not None and way != "reconstructed":
            self.notes.allow(layer.dictionary)
            self.notes.note(
                layer_name(layer.dictionary) or "", method="lookup", reason=f"dictionary of {name}"
            )
        if way == "lookup":
            made = (
                _flat(rewriter, layer, reason, self.planner)
                if layer.is_flat
                else _planar(rewriter, layer, reason, self.planner, self.planar)
            )
            if made is None and asked:
                self.notes.refuse(call, "the size of its input is unknown")
            return made
        self.notes.note(name, method="lookup", reason=reason)
        return _reconstructed(layer) if way == "reconstructed" else None

    def transposed(self, _rewriter: CallRewriter, call: relax.Call) -> None:
        """Stays, and is refused if it was asked for."""
        if isinstance(self.methods.get(layer_name(call) or ""), Lookup):
            self.notes.refuse(call, "it is a transposed convolution")


def _reason(layer: SparseLayer, way: str, costs: dict[str, float]) -> str:
    share = f"{100 * layer.density:.3g} % of the weights are not 0"
    dense = min(cost for name, cost in costs.items() if name != "lookup")
    if way == "lookup":
        return f"{share}: {dense / costs['lookup']:.2g} times as fast as dense by estimate"
    slower = costs["lookup"] / costs[way]
    name = "dense" if way == "dense" else "dense(reconstructed), dictionary and coefficients multiplied"
    return f"{name}: {share}; lookups would take {slower:.1f} times as long by estimate"


def _reconstructed(layer: SparseLayer) -> relax.Expr:
    """Dictionary and layer as one dense convolution."""
    weight, dictionary = layer.merged().transpose(0, 2, 3, 1), layer.dictionary
    assert dictionary is not None, "a layer without a dictionary has nothing to merge"
    attrs, padding = layer.call.attrs, layer.params_with_padding.padding
    together = relax.op.nn.conv2d(
        dictionary.args[0],
        relax.const(np.ascontiguousarray(weight)),
        attrs.strides,
        padding,
        attrs.dilation,
        1,
        "NHWC",
        "OHWI",
    )
    return keep_name(together, layer.call)


def _report(layer: SparseLayer, reason: str, weight_bytes: int) -> dict[str, Any]:
    report = layer_report("lookup", layer.call, layer.weight, reason)
    operations = report["operations"] * int(np.count_nonzero(layer.weight)) // layer.weight.size
    return report | {"operations": operations, "weight_bytes": weight_bytes}


def _planar(
    rewriter: CallRewriter, layer: SparseLayer, reason: str, planner: Planner, turns: Planar
) -> relax.Expr | None:
    """A sparse convolution between two changes of layout."""
    data = _planar_atoms(rewriter, layer, planner, turns)
    if data is None:
        data, params = turns.of(rewriter, layer.call.args[0]), layer.params
    else:
        params = layer.params_with_padding
    shape = known_sizes(data, 1)
    if shape is None:
        return None
    plan = planner.planned(
        "lookup_conv2d", replace(layer.problem(params), height=int(shape[2]), width=int(shape[3]))
    )
    knobs = plan.knobs
    filters = knobs.lists(layer.weight, params, (int(shape[1]), int(shape[2]), int(shape[3])))
    arrays = filters.arrays
    report = _report(layer, reason, sum(array.nbytes for array in arrays))
    attrs = annotations(rewriter, layer.call, plan, report)
    func = lookup_conv2d(shape, filters, params, knobs, attrs, planner.machine.kind)
    batch, height, width, outputs = layer.call.ty.shape
    out_shape = [batch, outputs, height, width]
    sums = primfunc_call(rewriter, func, "lookup_conv2d", [data, *map(relax.const, arrays)], out_shape)
    return relax.op.permute_dims(sums, (0, 2, 3, 1))


def _planar_atoms(
    rewriter: CallRewriter, layer: SparseLayer, planner: Planner, turns: Planar
) -> relax.Var | None:
    """The dictionary's products, planar; ``None`` where there is none, or the plane fills no vector."""
    dictionary, atoms = layer.dictionary, layer.atoms
    if dictionary is None or atoms is None:
        return None
    data = turns.of(rewriter, dictionary.args[0])
    shape = known_sizes(data, 1)
    if shape is None:
        return None
    height, width, matrix = int(shape[2]), int(shape[3]), atoms[:, :, 0, 0]
    problem = PointwiseProblem(
        batch=extent(data.ty.shape[0]), channels=int(shape[1]), height=height, width=width, atoms=len(matrix)
    )
    plan = planner.plan("pointwise_planar", problem)
    if plan is None:
        return None
    reason = f"dictionary of {layer_name(layer.call)}"
    report = layer_report("lookup", dictionary, atoms, reason)
    attrs = annotations(rewriter, dictionary, plan, report)
    func = pointwise_planar(shape, len(matrix), plan.knobs, attrs, planner.machine.kind)
    packed = relax.const(pack_pointwise_weight(matrix, plan.knobs))
    out_shape = [data.ty.shape[0], len(matrix), height, width]
    return primfunc_call(rewriter, func, "pointwise_planar", [data, packed], out_shape, pattern=OPAQUE)


def _flat(rewriter: CallRewriter, layer: SparseLayer, reason: str, planner: Planner) -> relax.Expr | None:
    """Dot products with the nonzeros of each filter, over the flattened input."""
    data, call = layer.call.args[0], layer.call
    matrix = layer.weight.transpose(0, 2, 3, 1).reshape(len(layer.weight), -1)
    if len(data.ty.shape) != 2:
        lead = list(data.ty.shape)[:1] if op_name(call) == "nn.conv2d" else list(data.ty.shape)[:-1]
        if len(lead) > 1 and not all(isinstance(n, tirx.IntImm) for n in lead):
            return None
        count = lead[0] if len(lead) == 1 else math.prod(int(n) for n in lead)
        data = rewriter.builder_.emit(relax.op.reshape(data, [count, matrix.shape[1]]))
    sizes = known_sizes(data, 1)
    if sizes is None:
        return None
    plan = planner.planned("lookup_dense", layer.flat_problem)
    rows = plan.knobs.lists(matrix)
    report = _report(layer, reason, sum(array.nbytes for array in rows.arrays))
    attrs = annotations(rewriter, call, plan, report)
    # What follows can be fused behind the sums, where their function allows it, unless a reshape stands between.
    fuses = plan.knobs.fuses_epilogues
    units = len(call.ty.shape) - 2 if fuses and op_name(call) == "nn.conv2d" else 0
    how = {"unit_axes": units} if units else {}
    func = lookup_dense(sizes[0], matrix.shape[1], len(matrix), rows, attrs, planner.machine.kind, **how)
    out_shape = [data.ty.shape[0], *[1] * units, call.ty.shape[-1]]
    sums = primfunc_call(rewriter, func, "lookup_dense", [data, *map(relax.const, rows.arrays)], out_shape)
    if len(call.ty.shape) != 2 + units:
        return relax.op.reshape(sums, call.ty.shape)
    return rewriter.definition(sums) if fuses else sums
