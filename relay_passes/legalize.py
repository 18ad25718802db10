"""Operators that get a better compute than TVM's own when they are turned into loops."""

import functools
from collections.abc import Callable

from tvm import relax, topi

from tvm_fastconv.topi.exponential import exp, sigmoid, silu, softmax

Rule = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]


def _in_vectors(name: str, compute: Callable) -> Rule:
    def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        if call.args[0].ty.dtype != "float32":
            return call.op.get_attr("FLegalize")(builder, call)
        extra = {"axis": int(call.attrs.axis)} if name == "softmax" else {}
        return builder.call_te(functools.partial(compute, **extra), call.args[0], primfunc_name_hint=name)

    return legalize


def _cumsum(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    axis = None if call.attrs.axis is None else int(call.attrs.axis)
    return builder.call_te(topi.cumsum, call.args[0], axis, str(call.ty.dtype), bool(call.attrs.exclusive))


LEGALIZATIONS: dict[str, Rule] = {
    "relax.exp": _in_vectors("exp", exp),
    "relax.sigmoid": _in_vectors("sigmoid", sigmoid),
    "relax.nn.silu": _in_vectors("silu", silu),
    "relax.nn.softmax": _in_vectors("softmax", softmax),
    "relax.cumsum": _cumsum,  # for which TVM has none
}
"""For ``LegalizeOps(customize_legalize_map)``; functions in vectors are for float32, others take TVM's own way."""
