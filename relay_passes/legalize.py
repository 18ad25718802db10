"""Operators that get a better compute than TVM's own when they are turned into loops."""

import functools
from collections.abc import Callable

from tvm import relax

from tvm_fastconv.topi.exponential import exp, sigmoid, silu, softmax

Rule = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]


def _in_vectors(name: str, compute: Callable) -> Rule:
    def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        if call.args[0].ty.dtype != "float32":
            return call.op.get_attr("FLegalize")(builder, call)
        extra = {"axis": int(call.attrs.axis)} if name == "softmax" else {}
        return builder.call_te(functools.partial(compute, **extra), call.args[0], primfunc_name_hint=name)

    return legalize


LEGALIZATIONS: dict[str, Rule] = {
    "relax.exp": _in_vectors("exp", exp),
    "relax.sigmoid": _in_vectors("sigmoid", sigmoid),
    "relax.nn.silu": _in_vectors("silu", silu),
    "relax.nn.softmax": _in_vectors("softmax", softmax),
}
"""For ``LegalizeOps(customize_legalize_map)``; what is not float32 takes TVM's own way."""
