"""NHWC inside, NCHW only where somebody needs it; or NCHW as the source has it, for a target that wants that.

Every 4-D value has two faces, NCHW and NHWC, and each is made only when it is asked for. Convolutions and pooling ask
for NHWC; what works in either order (element-wise operators, ``concat``, ``split``, reductions, resizing, the
reshapes of a channel shuffle) follows its inputs; whatever this pass does not know gets NCHW. A transpose is emitted
where a face is missing, once per value, so chains of NHWC operators carry none. A chain that leaves few
levels of what a convolution reads asks for NHWC too: it will be recognised together with the convolution.
"""

from dataclasses import replace

import tvm
from tvm import relax

from ..graph.rewrite import keep_name, op_name
from ..graph.source_values import Values, note_values, source_values
from ..graph.thresholds import DECISIONS
from .layout_rules import ELEMENTWISE, RULES, AsIs, to_channel_first, to_channel_last

SOURCE_LAYOUT = "NCHW"
"""What PyTorch and ONNX have."""
LAYOUTS = ("NHWC", SOURCE_LAYOUT)


@tvm.transform.module_pass(opt_level=0, name="PlanLayout")
class PlanLayout:
    """Move convolutions and what surrounds them to NHWC.

    Parameters
    ----------
    layout : str
        ``"NHWC"``; or ``"NCHW"``, which leaves everything as the source has it.

    Raises
    ------
    ValueError
        It is another one.
    """

    def __init__(self, layout: str) -> None:
        if layout not in LAYOUTS:
            raise ValueError(f"layout {layout!r} cannot be planned; allowed: {', '.join(LAYOUTS)}")
        self.layout = layout

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod`` that consists of dataflow blocks."""
        if self.layout == SOURCE_LAYOUT:
            return mod
        mod = relax.transform.ConvertToDataflow(min_size=1)(mod).clone()
        values = source_values(mod)
        faces: Values = {}
        for var, func in mod.functions.items():
            if isinstance(func, relax.Function) and _is_straight_line(func):
                planner = _Planner(mod)
                mod[var] = planner.rewrite(func)
                faces |= planner.faces(values)
        return relax.transform.CanonicalizeBindings()(note_values(mod, values | faces))


def _is_straight_line(func: relax.Function) -> bool:
    return isinstance(func.body, relax.SeqExpr) and all(
        isinstance(block, relax.DataflowBlock) for block in func.body.blocks
    )


def _few_level_inputs(func: relax.Function) -> set[relax.Var]:
    """What is computed element by element between a plane and a convolution, if a decision is among it."""
    values = {binding.var: binding.value for block in func.body.blocks for binding in block.bindings}

    def chain(end: relax.Expr) -> set[relax.Var]:
        found: set[relax.Var] = set()
        pending = [end]
        while pending:
            expr = pending.pop()
            name = op_name(values.get(expr)) if isinstance(expr, relax.Var) else None
            moves = name in ELEMENTWISE or name == "nn.pad"
            if moves and expr not in found and len(expr.ty.shape) == 4:
                found.add(expr)
                pending.extend(values[expr].args)
        return found

    chains = [chain(value.args[0]) for value in values.values() if op_name(value) == "nn.conv2d"]
    return {
        var
        for found in chains
        if any(op_name(values[var]) in DECISIONS - {"astype"} for var in found)
        for var in found
    }


class _Planner:
    """Rebuilds one function; `first` and `last` give a value's NCHW and NHWC face."""

    def __init__(self, mod: tvm.IRModule) -> None:
        self.builder = relax.BlockBuilder(mod)
        self.firsts: dict[relax.Var, relax.Expr] = {}
        self.lasts: dict[relax.Var, relax.Expr] = {}
        self.wanted: set[relax.Var] = set()

    def rewrite(self, func: relax.Function) -> relax.Function:
        """``func`` with its layouts planned; the types of its inputs and outputs stay."""
        params = list(func.params)
        self.firsts = {param: param for param in params}
        self.wanted = _few_level_inputs(func)
        with self.builder.function("planned", params, attrs=dict(func.attrs or {}), private=True):
            with self.builder.dataflow():
                for block in func.body.blocks:
                    for binding in block.bindings:
                        self._bind(binding)
                result = self.builder.emit_output(self.first(func.body.body))
            self.builder.emit_func_output(result)
        return self.builder.get()["planned"].with_attrs(dict(func.attrs or {}))

    def faces(self, values: Values) -> Values:
        """What the faces of the old variables stand for."""
        firsts = {self.firsts[var]: value for var, value in values.items() if var in self.firsts}
        lasts = {
            self.lasts[var]: replace(value, channels_last=True)
            for var, value in values.items()
            if var in self.lasts and len(getattr(var.ty, "shape", ())) == 4
        }
        return {face: value for face, value in (firsts | lasts).items() if isinstance(face, relax.Var)}

    def _bind(self, binding: relax.Binding) -> None:
        value = binding.value
        if binding.var in self.wanted:
            for arg in value.args:
                if isinstance(arg, relax.Var) and len(getattr(arg.ty, "shape", ())) == 4:
                    self.last(arg)
        rule = (
            RULES.get(value.op.name)
            if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.Op)
            else None
        )
        rewritten = rule(self, value) if rule else None
        if isinstance(rewritten, AsIs):
            self.firsts[binding.var] = self.builder.emit(keep_name(rewritten.expr, value))
        elif rewritten is not None:
            self.lasts[binding.var] = self.builder.emit(keep_name(rewritten, value))
        elif isinstance(value, relax.TupleGetItem) and value.tuple_value in self.lasts:
            self.lasts[binding.var] = self.builder.emit(
                relax.TupleGetItem(self.lasts[value.tuple_value], value.index)
            )
        elif isinstance(value, relax.Var) and value in self.lasts:
            self.lasts[binding.var] = self.lasts[value]
        elif isinstance(binding, relax.MatchCast):
            self.firsts[binding.var] = self.builder.match_cast(self.first(value), binding.ty)
        else:
            self.firsts[binding.var] = self.builder.emit(self._with_first_operands(value))

    def _with_first_operands(self, value: relax.Expr) -> relax.Expr:
        if isinstance(value, relax.Call):
            return relax.Call(
                value.op, [self.first(a) for a in value.args], value.attrs, value.ty_args, value.span
            )
        if isinstance(value, relax.TupleGetItem):
            return relax.TupleGetItem(self.first(value.tuple_value), value.index)
        return self.first(value)

    def has_last(self, expr: relax.Expr) -> bool:
        """Whether ``expr`` exists in NHWC already."""
        if isinstance(expr, relax.Tuple):
            return any(self.has_last(field) for field in expr.fields)
        return isinstance(expr, relax.Var) and expr in self.lasts

    def first(self, expr: relax.Expr) -> relax.Expr:
        """``expr`` as the source graph had it."""
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.first(field) for field in expr.fields])
        if not isinstance(expr, relax.Var):
            return expr
        if expr not in self.firsts:
            last = self.lasts[expr]
            if isinstance(expr.ty, relax.TupleType):
                fields = [relax.TupleGetItem(last, i) for i in range(len(expr.ty.fields))]
                made = relax.Tuple(
                    [self.builder.emit(to_channel_first(self.builder.emit(f))) for f in fields]
                )
            else:
                made = self.builder.emit(to_channel_first(last))
            self.firsts[expr] = made
        return self.firsts[expr]

    def last(self, expr: relax.Expr) -> relax.Expr:
        """``expr``, of four or five dimensions, with its channels last."""
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.last(field) for field in expr.fields])
        if not isinstance(expr, relax.Var):
            return to_channel_last(expr)
        if expr not in self.lasts:
            self.lasts[expr] = self.builder.emit(to_channel_last(self.first(expr)))
        return self.lasts[expr]
