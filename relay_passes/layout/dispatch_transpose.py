"""Transposes between the layouts of computed values → ours.

Runs after the other dispatch passes: a transpose that a convolution reads through is gone by then.
"""

import math

import tvm
from tvm import relax

from tvm_fastconv.topi.operators import marked
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.transpose import TransposeProblem, transpose

from ..graph.conv_call import extent
from ..graph.operator_call import OPAQUE, known_sizes, primfunc_call
from ..graph.rewrite import CallRewriter, rewrite_calls


@tvm.transform.module_pass(opt_level=0, name="DispatchTranspose")
class DispatchTranspose:
    """Swap the transposes that exchange two groups of axes, as NCHW and NHWC do.

    Parameters
    ----------
    planner : Planner
    """

    def __init__(self, planner: Planner) -> None:
        self.planner = planner

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        return rewrite_calls(mod, {"permute_dims": self._permute_dims})

    def _permute_dims(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        found = _exchanged_groups(call)
        shape = None if found is None else known_sizes(call.args[0], found[0])
        if found is None or shape is None or not self.planner.has("transpose"):
            return None
        lead, rows = found
        height, width = math.prod(shape[lead : lead + rows]), math.prod(shape[lead + rows :])
        batch = math.prod(extent(n) for n in list(call.args[0].ty.shape)[:lead])
        plan = self.planner.plan("transpose", TransposeProblem(batch=batch, rows=height, columns=width))
        if plan is None:
            return None
        func = transpose(shape, lead, rows, plan.knobs.side, self.planner.machine.kind)
        func = marked(func, plan.op, plan.problem, plan.knobs)
        out_shape = list(call.ty.shape)
        return primfunc_call(rewriter, func, "transpose", [call.args[0]], out_shape, pattern=OPAQUE)


def _exchanged_groups(call: relax.Call) -> tuple[int, int] | None:
    """(axes that stay in front, axes that move behind the others), or ``None`` for another permutation."""
    if call.attrs.axes is None:
        return None
    axes = [int(axis) for axis in call.attrs.axes]
    lead = next((i for i, axis in enumerate(axes) if axis != i), len(axes))
    if lead == len(axes):
        return None
    first = axes[lead]
    rotated = [*range(lead), *range(first, len(axes)), *range(lead, first)]
    return (lead, first - lead) if axes == rotated else None
