"""``sign(x)`` in front of a binary layer → ``where(x >= 0, 1, −1)``: +1, not 0, where x is exactly 0.

That is what training code means by it, and what one bit can hold. It changes numbers, at exact zeros, so it is
announced once per model, and the model is verified as it is afterwards. Where x is never negative, sign is 0 or 1, and
where much of x is 0 by construction, it has three levels in earnest: there it stays. It stays too where its layer would
read more than two levels all the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import tvm
from tvm import relax

from tvm_fastconv.notices import notify

from ..dense.canonicalize_padding import constant_border
from ..graph.layer_names import layer_name
from ..graph.rewrite import CallRewriter, constant_array, op_name, rewrite_calls
from .activation_levels import ActivationLevels, activation_levels
from .decisions import Decision
from .few_level_layers import few_level_candidate, padding_level
from .weight_levels import WeightLevels, weight_levels
from .zeros import never_negative, often_zero


@tvm.transform.module_pass(opt_level=0, name="ApproximateSign")
class ApproximateSign:
    """Give zero a sign where few-level layers read it."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        readers: dict[relax.Var, str] = {}
        for func in mod.functions.values():
            if isinstance(func, relax.Function):
                readers |= _signs_before_layers(func)

        def sign(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
            return plus_or_minus_one(call.args[0]) if rewriter.binding in readers else None

        if readers:
            where = ", ".join(dict.fromkeys(readers.values()))
            notify(f"sign(0) is taken as +1 (in front of {where})")
        return rewrite_calls(mod, {"sign": sign})


def plus_or_minus_one(data: relax.Expr) -> relax.Expr:
    """``where(data >= 0, 1, −1)``."""
    positive = relax.op.greater_equal(data, relax.const(0.0, "float32"))
    return relax.op.where(positive, relax.const(1.0, "float32"), relax.const(-1.0, "float32"))


@dataclass
class _SignsAsBits:
    """A function read as if every sign that does not count zeros were ±1; for what asks a rewriter for definitions.

    Attributes
    ----------
    values : dict
        Variable to what it is bound to.
    signs : list
        The variables of the signs that were met.
    """

    values: dict[relax.Var, relax.Expr]
    signs: list[relax.Var] = field(default_factory=list)

    def definition(self, expr: relax.Expr) -> relax.Expr:
        """What ``expr`` is bound to, or ``expr`` itself."""
        value = self.values.get(expr, expr) if isinstance(expr, relax.Var) else expr
        if op_name(value) != "sign" or value.ty.dtype != "float32":
            return value
        data = value.args[0]
        if never_negative(self, data) or often_zero(self, data):
            return value
        self.signs.append(expr)
        builder, selected = relax.BlockBuilder(), plus_or_minus_one(data)
        positive = relax.Var("positive", relax.TensorType(data.ty.shape, "bool"))
        self.values[positive] = builder.normalize(selected.args[0])
        return builder.normalize(relax.Call(selected.op, [positive, *selected.args[1:]]))


def _signs_before_layers(func: relax.Function) -> dict[relax.Var, str]:
    """Variable of each sign by which a layer with few-level weights has two levels, and the name of the first layer."""
    values = {binding.var: binding.value for block in func.body.blocks for binding in block.bindings}
    found: dict[relax.Var, str] = {}
    for value in values.values():
        if _has_few_level_weights(value):
            for var in _signs_of_input(value, values):
                found.setdefault(var, layer_name(value) or "a layer")
    return found


def _has_few_level_weights(value: relax.Expr) -> bool:
    if op_name(value) not in ("nn.conv2d", "matmul"):
        return False
    if op_name(value) == "nn.conv2d":
        weight = constant_array(value.args[1])  # in any layout: this pass comes before they are planned
    else:
        found = few_level_candidate(value)
        weight = None if found is None else found[1]
    return weight is not None and isinstance(weight_levels(weight), WeightLevels)


def _signs_of_input(layer: relax.Call, values: Mapping[relax.Var, relax.Expr]) -> list[relax.Var]:
    reading = _SignsAsBits(dict(values))
    data, border = layer.args[0], 0.0
    if op_name(layer) == "nn.conv2d" and not any(map(int, layer.attrs.padding)):
        data, border, _ = constant_border(reading, data, layer.attrs.data_layout) or (data, border, None)
    levels = activation_levels(reading, data)
    if not isinstance(levels, ActivationLevels) or not isinstance(levels.how, Decision):
        return []
    return reading.signs if padding_level(border, levels) is not None else []
