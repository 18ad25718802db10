"""Operators that get a better compute than TVM's own when they are turned into loops."""

import functools
from collections.abc import Callable

from tvm import relax, tirx, topi

from tvm_fastconv.topi import hyperbolic
from tvm_fastconv.topi.exponential import exp, sigmoid, silu, softmax
from tvm_fastconv.topi.norms import group_norm, layer_norm

Rule = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]


_ATTRIBUTES: dict[str, dict[str, type]] = {
    "softmax": {"axis": int},
    "softplus": {"beta": float, "threshold": float},
}


def _in_vectors(name: str, compute: Callable) -> Rule:
    def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        if call.args[0].ty.dtype != "float32":
            return call.op.get_attr("FLegalize")(builder, call)
        extra = {key: kind(getattr(call.attrs, key)) for key, kind in _ATTRIBUTES.get(name, {}).items()}
        return builder.call_te(functools.partial(compute, **extra), call.args[0], primfunc_name_hint=name)

    return legalize


def _cumsum(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    axis = None if call.attrs.axis is None else int(call.attrs.axis)
    return builder.call_te(topi.cumsum, call.args[0], axis, str(call.ty.dtype), bool(call.attrs.exclusive))


def _layer_norm(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    attrs = call.attrs
    axes = [int(axis) for axis in attrs.axes]
    if call.ty.dtype != "float32" or not _are_known(call.args[0], axes):
        return call.op.get_attr("FLegalize")(builder, call)
    how = functools.partial(layer_norm, axes=axes, epsilon=float(attrs.epsilon))
    return builder.call_te(how, *call.args, primfunc_name_hint="layer_norm")


def _group_norm(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Group norm, or instance norm, whose groups are single channels."""
    attrs, channel = call.attrs, int(call.attrs.channel_axis)
    axes = [int(axis) for axis in attrs.axes]
    if call.ty.dtype != "float32" or not _are_known(call.args[0], [channel, *axes]):
        return call.op.get_attr("FLegalize")(builder, call)
    groups = int(getattr(attrs, "num_groups", call.args[0].ty.shape[channel]))
    how = functools.partial(
        group_norm, groups=groups, channel_axis=channel, axes=axes, epsilon=float(attrs.epsilon)
    )
    return builder.call_te(how, *call.args, primfunc_name_hint="group_norm")


def _are_known(data: relax.Expr, axes: list[int]) -> bool:
    return all(isinstance(data.ty.shape[axis], tirx.IntImm) for axis in axes)


EXACT: dict[str, Rule] = {
    "relax.tanh": _in_vectors("tanh", hyperbolic.tanh),
    "relax.atanh": _in_vectors("atanh", hyperbolic.atanh),
    "relax.sinh": _in_vectors("sinh", hyperbolic.sinh),
    "relax.cosh": _in_vectors("cosh", hyperbolic.cosh),
    "relax.nn.softplus": _in_vectors("softplus", hyperbolic.softplus),
    "relax.nn.group_norm": _group_norm,
    "relax.nn.instance_norm": _group_norm,
    "relax.nn.layer_norm": _layer_norm,
    "relax.cumsum": _cumsum,
}
"""Where TVM has no loops, or loops that cancel."""

LEGALIZATIONS: dict[str, Rule] = EXACT | {
    "relax.exp": _in_vectors("exp", exp),
    "relax.sigmoid": _in_vectors("sigmoid", sigmoid),
    "relax.nn.silu": _in_vectors("silu", silu),
    "relax.nn.softmax": _in_vectors("softmax", softmax),
}
"""For ``LegalizeOps(customize_legalize_map)``; all are for float32, other dtypes take TVM's own way."""
