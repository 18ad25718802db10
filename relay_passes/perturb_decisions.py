"""What float noise does to decisions: a graph whose caller chooses the rounding errors, to see how far outputs move.

Errors arise where sums are rounded: a layer's are of the size of its largest output, even where terms cancel to 0. What
is decided from gets a relative one as well, which leaves zeros, of a relu for example, what they are in every engine.
"""

import tvm
from tvm import relax

from .graph import CallRewriter, rewrite_calls
from .thresholds import DECISIONS, LAYERS, decisive_values


@tvm.transform.module_pass(opt_level=0, name="PerturbDecisions")
class PerturbDecisions:
    """One more parameter of ``main``, ``noise_i``, for each rounding that may turn a decision.

    A layer's ``y`` in front of a decision becomes ``y + noise · max|y|``, what is decided from ``x + noise · x``. A
    parameter has the shape of its value, with 1 for unknown extents: zeros give the outputs of ``mod``.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``, the only Relax function of ``mod``."""
        noise = _Noise(mod["main"])
        rules = dict.fromkeys(LAYERS, noise.after_layer) | dict.fromkeys(DECISIONS, noise.before_decision)
        mod = rewrite_calls(mod, rules)
        main = mod["main"]
        params = [*main.params, *noise.params]
        mod.update_func(
            mod.get_global_var("main"),
            relax.Function(params, main.body, main.ret_ty, main.is_pure, main.attrs),
        )
        return mod


class _Noise:
    """The rules, and the parameters that they have asked for."""

    def __init__(self, main: relax.Function) -> None:
        self.decisive = decisive_values(main)
        self.params: list[relax.Var] = []
        self.moved: dict[relax.Var, relax.Var] = {}

    def after_layer(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """Rule for a layer: an error of the size of its sums."""
        if rewriter.binding not in self.decisive or call.ty.dtype != "float32":
            return None
        emit = rewriter.builder_.emit
        sums = rewriter.emit(call, call)
        largest = emit(relax.op.max(emit(relax.op.abs(sums))))
        return relax.op.add(sums, emit(relax.op.multiply(largest, self._param(sums))))

    def before_decision(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr:
        """Rule for a decision: a relative error of what it is computed from."""
        args = [self._relative(rewriter, arg) for arg in call.args]
        return relax.Call(call.op, args, call.attrs, call.ty_args, call.span)

    def _relative(self, rewriter: CallRewriter, arg: relax.Expr) -> relax.Expr:
        if not isinstance(arg, relax.Var) or getattr(arg.ty, "dtype", "") != "float32":
            return arg
        if arg not in self.moved:
            emit = rewriter.builder_.emit
            self.moved[arg] = emit(relax.op.add(arg, emit(relax.op.multiply(arg, self._param(arg)))))
        return self.moved[arg]

    def _param(self, value: relax.Var) -> relax.Var:
        shape = [int(n) if isinstance(n, tvm.tirx.IntImm) else 1 for n in value.ty.shape]
        self.params.append(relax.Var(f"noise_{len(self.params)}", relax.TensorType(shape, "float32")))
        return self.params[-1]
