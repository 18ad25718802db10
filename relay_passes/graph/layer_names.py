"""Layer names: the module path that a Relax call came from, carried in the call's source span.

A span survives the stock passes we use before dispatch (``EliminateCommonSubexpr``, ``FoldConstant``,
``DeadCodeElimination``) and every mutator of ours, is ignored by structural equality, so equal layers stay
equal, and needs no attribute of its own on standard operators. ``ConvertLayout`` drops it: we do not use that.
"""

import tvm
from tvm import relax

_SCHEME = "layer:"
_LAYERS = ("relax.nn.conv2d", "relax.nn.conv2d_transpose", "relax.matmul")


def with_layer_name(call: relax.Call, name: str) -> relax.Call:
    """Return ``call`` with ``name`` (``"layer1.0.conv2"``) as its layer name."""
    span = tvm.ir.Span(tvm.ir.SourceName(_SCHEME + name), 0, 0, 0, 0)
    return relax.Call(call.op, call.args, call.attrs, call.ty_args, span)


def layer_name(expr: relax.Expr) -> str | None:
    """Return the layer name of a call, or ``None`` where it has none (foreign modules, synthesised calls)."""
    span = expr.span
    if span is None or not span.source_name.name.startswith(_SCHEME):
        return None
    return span.source_name.name.removeprefix(_SCHEME)


def named_layers(func: relax.Function) -> list[str]:
    """Names of the convolutions and linear layers with constant weights, in program order."""
    values = [binding.value for block in func.body.blocks for binding in block.bindings]
    layers = [v for v in values if isinstance(v, relax.Call) and getattr(v.op, "name", "") in _LAYERS]
    names = [layer_name(call) for call in layers if isinstance(call.args[1], tvm.ir.GenericConst)]
    return list(dict.fromkeys(name for name in names if name is not None))
