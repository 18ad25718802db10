"""Which values decide something: what a sign, a comparison or a rounding is computed from, but for layers between.

An operator that trades accuracy for speed must not stand in front of one: 1e-6 of noise turns a bit there.
"""

import tvm
from tvm import relax

from .rewrite import op_name

DECISIONS = frozenset((
    "argmax", "argmin", "astype", "ceil", "dequantize", "equal", "floor", "floor_divide", "floor_mod", "greater",
    "greater_equal", "less", "less_equal", "not_equal", "quantize", "round", "sign", "trunc",
))  # fmt: skip
LAYERS = frozenset(("nn.conv2d", "nn.conv2d_transpose", "matmul"))


def decisive_values(func: relax.Function) -> set[relax.Var]:
    """Variables of ``func`` that reach one of `DECISIONS` without passing a layer."""
    decisive: set[relax.Var] = set()
    for block in reversed(func.body.blocks):
        for binding in reversed(block.bindings):
            name = op_name(binding.value)
            if name in DECISIONS or (binding.var in decisive and name not in LAYERS):
                relax.analysis.post_order_visit(
                    binding.value, lambda expr: decisive.add(expr) if isinstance(expr, relax.Var) else None
                )
    return decisive


def decides(mod: tvm.IRModule) -> bool:
    """Whether a result of ``mod`` can jump: a sign, a comparison or a rounding is computed."""
    names = {
        op_name(binding.value)
        for func in mod.functions.values()
        if isinstance(func, relax.Function)
        for block in func.body.blocks
        for binding in block.bindings
    }
    return bool(names & (DECISIONS - {"astype"}))
