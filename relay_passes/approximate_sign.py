"""``sign(x)`` in front of a binary layer → ``where(x >= 0, 1, −1)``: +1, not 0, where x is exactly 0.

That is what training code means by it, and what one bit can hold. It changes numbers, at exact zeros, so it is
announced once per model, and the model is verified as it is afterwards. Where x is never negative, sign is 0 or 1, and
where a relu or a clip makes many zeros, it has three levels in earnest: there it stays.
"""

import tvm
from tvm import relax

from tvm_fastconv.notices import notify

from .graph import CallRewriter, constant_array, op_name, rewrite_calls
from .layer_names import layer_name
from .weight_levels import WeightLevels, weight_levels
from .zeros import never_negative, often_zero

LAYERS = ("nn.conv2d", "matmul")
BETWEEN = frozenset((
    "add", "divide", "multiply", "negative", "nn.max_pool2d", "nn.pad", "permute_dims", "reshape", "subtract",
))  # fmt: skip
"""What may stand between a sign and the layer whose input has two levels because of it."""


@tvm.transform.module_pass(opt_level=0, name="ApproximateSign")
class ApproximateSign:
    """Give zero a sign where few-level layers read it."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        readers: dict[relax.Var, str] = {}
        for func in mod.functions.values():
            if isinstance(func, relax.Function):
                readers |= _signs_before_layers(func)
        named: list[str] = []

        def sign(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
            if rewriter.binding not in readers or _counts_zeros(rewriter, call.args[0]):
                return None
            named.append(readers[rewriter.binding])
            return plus_or_minus_one(rewriter, call.args[0])

        mod = rewrite_calls(mod, {"sign": sign})
        if named:
            where = ", ".join(dict.fromkeys(named))
            notify(f"sign(0) is taken as +1 (in front of {where})")
        return mod


def _counts_zeros(rewriter: CallRewriter, data: relax.Expr) -> bool:
    return never_negative(rewriter, data) or often_zero(rewriter, data)


def plus_or_minus_one(rewriter: CallRewriter, data: relax.Expr) -> relax.Expr:
    """``where(data >= 0, 1, −1)``."""
    positive = rewriter.builder_.emit(relax.op.greater_equal(data, relax.const(0.0, "float32")))
    return relax.op.where(positive, relax.const(1.0, "float32"), relax.const(-1.0, "float32"))


def _signs_before_layers(func: relax.Function) -> dict[relax.Var, str]:
    """Variable of each float32 sign that a layer with few-level weights reads, and the name of the first such layer."""
    values = {binding.var: binding.value for block in func.body.blocks for binding in block.bindings}
    found: dict[relax.Var, str] = {}
    for value in values.values():
        if op_name(value) not in LAYERS or (weight := constant_array(value.args[1])) is None:
            continue
        by_filter = weight.T if op_name(value) == "matmul" else weight
        if isinstance(weight_levels(by_filter), WeightLevels):
            for var in _signs_behind(value.args[0], values):
                found.setdefault(var, layer_name(value) or "a layer")
    return found


def _signs_behind(expr: relax.Expr, values: dict[relax.Var, relax.Expr]) -> list[relax.Var]:
    value = values.get(expr) if isinstance(expr, relax.Var) else None
    if value is None or op_name(value) not in BETWEEN | {"sign"}:
        return []
    if op_name(value) == "sign":
        return [expr] if value.ty.dtype == "float32" else []
    return [var for arg in value.args for var in _signs_behind(arg, values)]
