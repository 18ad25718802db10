"""Sums over constants are computed in float64 and rounded once.

TVM folds constants by plain loops: a float32 sum one term after the other is off by 1e-3 at 4 million terms and by 1e-1
at 38 million, as in ``mean(|w|)`` of a large layer. PyTorch sums in pairs, which is as good as exact; so is this.
"""

import numpy as np
import tvm
from tvm import relax

from ..graph.rewrite import CallRewriter, constant_array, rewrite_calls

SUMS = (
    "cumprod", "cumsum", "einsum", "matmul", "mean", "nn.adaptive_avg_pool1d", "nn.adaptive_avg_pool2d",
    "nn.avg_pool1d", "nn.avg_pool2d", "nn.avg_pool3d", "nn.conv1d", "nn.conv1d_transpose", "nn.conv2d",
    "nn.conv2d_transpose", "nn.log_softmax", "nn.softmax", "prod", "std", "sum", "variance",
)  # fmt: skip
"""Without layer, group and instance norms, which TVM has for float32 alone."""


@tvm.transform.module_pass(opt_level=0, name="CanonicalizeConstantSums")
class CanonicalizeConstantSums:
    """``op(c)`` → ``float32(op(float64(c)))`` for every operator that sums, where no input of the model is involved."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``; folding is left to ``FoldConstant``."""
        constants: set[relax.Var] = set()
        for func in mod.functions.values():
            if isinstance(func, relax.Function):
                constants |= constant_values(func)

        def in_double(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
            if rewriter.binding not in constants or getattr(call.ty, "dtype", None) != "float32":
                return None
            emit = rewriter.builder_.emit
            args = [emit(relax.op.astype(arg, "float64")) if _is_single(arg) else arg for arg in call.args]
            total = emit(relax.Call(call.op, args, call.attrs, call.ty_args, call.span))
            # FoldConstant passes over conversions of tensors without axes.
            total = total if len(call.ty.shape) else emit(relax.op.reshape(total, (1,)))
            single = relax.op.astype(total, "float32")
            return single if len(call.ty.shape) else relax.op.reshape(emit(single), ())

        return rewrite_calls(mod, dict.fromkeys(SUMS, in_double))


@tvm.transform.module_pass(opt_level=0, name="FoldRunningSums")
class FoldRunningSums:
    """Running sums of constants, which ``FoldConstant`` leaves: TVM has no loops for them."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``, whose constants are folded as far as ``FoldConstant`` can."""
        return rewrite_calls(mod, {"cumsum": _running_sum})


def _running_sum(_rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
    data = constant_array(call.args[0])
    if data is None:
        return None
    axis = None if call.attrs.axis is None else int(call.attrs.axis)
    dtype = str(call.ty.dtype)
    total = np.cumsum(data, axis, dtype)
    return relax.const(total - data.reshape(total.shape) if call.attrs.exclusive else total, dtype)


def constant_values(func: relax.Function) -> set[relax.Var]:
    """Variables of ``func`` that depend on none of its parameters."""
    constants: set[relax.Var] = set()

    def check(expr: relax.Expr) -> None:
        if isinstance(expr, relax.Var) and expr not in constants:
            free.append(expr)

    for block in func.body.blocks:
        for binding in block.bindings:
            free: list[relax.Var] = []
            relax.analysis.post_order_visit(binding.value, check)
            if not free:
                constants.add(binding.var)
    return constants


def _is_single(arg: relax.Expr) -> bool:
    return isinstance(arg.ty, relax.TensorType) and str(arg.ty.dtype) == "float32"
