"""What float noise does: a graph whose caller chooses the rounding errors, to see how far its results move.

A sum is as far off as its terms are large, even where they cancel to 0: a layer's bound is computed from the magnitudes
of its operands. Zeros of a relu, for example, stay what they are in every engine.
"""

import math
from collections.abc import Callable

import tvm
from tvm import relax

from ..graph.rewrite import CallRewriter, rewrite_calls
from ..graph.thresholds import DECISIONS, LAYERS
from .rounding_bounds import bound_of

MOVES = frozenset((
    "astype", "broadcast_to", "clip", "concat", "expand_dims", "flip", "gather_elements",
    "negative", "nn.max_pool2d", "nn.pad", "nn.relu", "permute_dims", "repeat", "reshape", "split", "squeeze",
    "strided_slice", "take", "tile", "where",
))  # fmt: skip
"""Operators that round nothing."""


@tvm.transform.module_pass(opt_level=0, name="PerturbRoundings")
class PerturbRoundings:
    """One more parameter of ``main``, ``off_i``, for each value that is rounded: ``y`` becomes ``y + off · bound``.

    A parameter has the shape of its value, with 1 for unknown extents: zeros give the results of ``mod``.

    Parameters
    ----------
    unit, spread : float
        A float32 is off by ``unit`` of itself at most; n terms sum up to ``spread · unit · sqrt(n)`` of the sum of
        their magnitudes.
    layers : float
        The bound of a layer is at least this much of its channel's largest result.
    factors : float
        Where its factors are rounded, it is off by so many times the root of the sum of its squared terms besides.
    """

    def __init__(self, unit: float, spread: float, layers: float, factors: float = 0.0) -> None:
        self.unit, self.spread, self.layers, self.factors = unit, spread, layers, factors

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``, the only Relax function of ``mod``."""
        found = _Roundings(self)
        names = {expr.op.name.removeprefix("relax.") for expr in _calls(mod["main"])}
        rules = dict.fromkeys(names - MOVES - DECISIONS, found.of_value) | dict.fromkeys(
            LAYERS, found.of_layer
        )
        mod = rewrite_calls(mod, rules)
        main = mod["main"]
        params = [*main.params, *found.params]
        function = relax.Function(params, main.body, main.ret_ty, main.is_pure, main.attrs)
        mod.update_func(mod.get_global_var("main"), function)
        return mod


def _calls(main: relax.Function) -> list[relax.Call]:
    values = [binding.value for block in main.body.blocks for binding in block.bindings]
    return [v for v in values if isinstance(v, relax.Call) and isinstance(v.op, tvm.ir.Op)]


class _Roundings:
    """The rules, and the parameters that they have asked for."""

    def __init__(self, bounds: PerturbRoundings) -> None:
        self.bounds = bounds
        self.params: list[relax.Var] = []

    def of_layer(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """Rule for a layer: the layer of the magnitudes of its operands."""
        if not _is_float(call):
            return None
        emit = rewriter.builder_.emit
        sums = rewriter.emit(call, call)

        def of_factors(change: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
            changed = [emit(change(arg)) for arg in call.args]
            return emit(relax.Call(call.op, changed, call.attrs, call.ty_args))

        share = self.bounds.spread * self.bounds.unit * math.sqrt(_terms(call))
        bound = emit(relax.op.multiply(of_factors(relax.op.abs), relax.const(share, "float32")))
        if self.bounds.factors:
            deviation = emit(relax.op.sqrt(of_factors(relax.op.square)))
            rounded = relax.op.multiply(deviation, relax.const(self.bounds.factors, "float32"))
            bound = emit(relax.op.add(bound, emit(rounded)))
        if self.bounds.layers:
            others = [axis for axis in range(len(sums.ty.shape)) if axis != _channel_axis(call)]
            largest = emit(relax.op.max(emit(relax.op.abs(sums)), others, keepdims=True))
            least = emit(relax.op.multiply(largest, relax.const(self.bounds.layers, "float32")))
            bound = emit(relax.op.maximum(bound, least))
        return relax.op.add(sums, emit(relax.op.multiply(bound, self._param(sums))))

    def of_value(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """Rule for everything else: a few roundings of its `bound_of`."""
        if not _is_float(call):
            return None
        emit = rewriter.builder_.emit
        value = rewriter.emit(call, call)
        few = relax.const(4 * self.bounds.unit, "float32")
        bound = emit(relax.op.multiply(bound_of(emit, call, value), few))
        return relax.op.add(value, emit(relax.op.multiply(bound, self._param(value))))

    def _param(self, value: relax.Var) -> relax.Var:
        shape = [int(n) if isinstance(n, tvm.tirx.IntImm) else 1 for n in value.ty.shape]
        self.params.append(relax.Var(f"off_{len(self.params)}", relax.TensorType(shape, "float32")))
        return self.params[-1]


def _channel_axis(call: relax.Call) -> int:
    """The axis of a layer's result along which it has other weights."""
    if call.op.name == "relax.matmul":
        return len(call.ty.shape) - 1
    return str(call.attrs.out_layout or call.attrs.data_layout).index("C")


def _is_float(call: relax.Call) -> bool:
    """Whether ``call`` makes one float32 tensor, from computed values at least in part."""
    ty = call.ty
    computed = any(isinstance(arg, relax.Var) for arg in call.args)
    return (
        computed and isinstance(ty, relax.TensorType) and str(ty.dtype) == "float32" and ty.shape is not None
    )


def _terms(call: relax.Call) -> int:
    """Products in each sum of a layer."""
    weight = [int(n) if isinstance(n, tvm.tirx.IntImm) else 1 for n in call.args[1].ty.shape]
    if call.op.name == "relax.matmul":
        return weight[-2] if len(weight) > 1 else weight[0]
    return math.prod(weight) // weight[1 if call.op.name.endswith("transpose") else 0]
