"""How a dispatch pass puts one of our operators into the graph, and how its layer is found again after fusion.

The anchor block carries four annotations, which survive ``FuseOps`` and ``FuseTIR``: ``fastconv.op`` names the
operator, ``fastconv.problem`` and ``fastconv.knobs`` say from what it can be made again, and ``fastconv.layer`` what
the report says of the layer. Equal layers must share one function, so `CollectLayers` takes the last one away again
once the graph is fused.
"""

import functools
import json
from collections.abc import Callable
from typing import Any

import tvm
from tvm import relax, tirx

from tvm_fastconv.topi.operators import operator_attrs
from tvm_fastconv.topi.planner import Plan

from .layer_names import layer_name
from .rewrite import CallRewriter

OUT_ELEMWISE_FUSABLE = 4
"""TVM's operator pattern for what element-wise operators may be fused behind."""

CHAIN = "fastconv.chain"
"""PrimFunc attribute: the number of the chain that an operator is to be fused into."""

OPAQUE = 8
"""TVM's operator pattern for what nothing is fused with."""


def operator_call(
    rewriter: CallRewriter,
    source: relax.Call | None,
    compute: Callable,
    args: list[relax.Expr],
    *,
    plan: Plan[Any],
    report: dict[str, Any] | None = None,
    pattern: int = OUT_ELEMWISE_FUSABLE,
    chain: str | None = None,
    **kwargs: Any,
) -> relax.Call:
    """A call of ``compute`` in place of ``source``, or of nothing that the source graph has.

    Parameters
    ----------
    compute : TE function
        Called with a tensor for each of ``args``, ``kwargs`` and ``attrs``, the annotations for its anchor block.
    plan : Plan
        Operator, problem and knobs.
    report : dict, optional
        Fields of the layer's `LayerReport` beside name, op and schedule; ``None`` for what is no layer of its own.
    pattern : int
        TVM's operator pattern: what may be fused with it.
    chain : str, optional
        Operators of the same `CHAIN` become one function.
    """
    attrs = annotations(rewriter, source, plan, report)
    bound = functools.partial(compute, attrs=attrs, **kwargs)
    primfunc_attrs = {"op_pattern": pattern} | ({} if chain is None else {CHAIN: chain})
    return rewriter.builder_.call_te(bound, *args, primfunc_name_hint=plan.op, primfunc_attrs=primfunc_attrs)


def annotations(
    rewriter: CallRewriter, source: relax.Call | None, plan: Plan[Any], report: dict[str, Any] | None
) -> dict[str, str]:
    """What an anchor block carries; arguments as for `operator_call`."""
    layer: dict[str, Any] = {
        "name": (layer_name(source) if source is not None else None) or rewriter.fresh_name(plan.op)
    }
    if report is not None:
        layer |= {"op": plan.op, "schedule": plan.knobs.to_json(), "source": plan.source, "gain": plan.gain}
        layer |= report
    attrs = operator_attrs(plan.op, plan.problem, plan.knobs)
    return attrs | {"fastconv.layer": json.dumps(layer, sort_keys=True)}


def primfunc_call(
    rewriter: CallRewriter,
    func: tirx.PrimFunc,
    name: str,
    args: list[relax.Expr],
    shape: list[tvm.ir.Expr],
    dtype: str = "float32",
    pattern: int = OUT_ELEMWISE_FUSABLE,
) -> relax.Var:
    """Add a function that was built for this place to the module and emit a call of it."""
    var = rewriter.builder_.add_func(func.with_attr("op_pattern", pattern), name)
    return rewriter.builder_.emit(relax.call_tir(var, args, out_ty=relax.TensorType(shape, dtype)))


def known_sizes(expr: relax.Expr, lead: int) -> tuple[int | tirx.Var, ...] | None:
    """The shape of a float32 value of which at most the ``lead`` first sizes are variables, else ``None``."""
    shape = list(expr.ty.shape)
    known = all(isinstance(n, tirx.IntImm) for n in shape[lead:])
    named = all(isinstance(n, tirx.IntImm | tirx.Var) for n in shape[:lead])
    if not known or not named or expr.ty.dtype != "float32":
        return None
    return tuple(int(n) if isinstance(n, tirx.IntImm) else tirx.Var(n.name, "int64") for n in shape)
