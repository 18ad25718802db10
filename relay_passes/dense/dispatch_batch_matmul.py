"""Products of two computed matrices → ours. Those with constant weights are `DispatchDense`'s."""

import tvm
import tvm_ffi
from tvm import relax, tirx

from tvm_fastconv.topi.batch_matmul import batch_matmul
from tvm_fastconv.topi.planner import Planner

from ..graph.conv_call import linear_problem
from ..graph.operator_call import operator_call
from ..graph.rewrite import CallRewriter, rewrite_calls


@tvm.transform.module_pass(opt_level=0, name="DispatchBatchMatmul")
class DispatchBatchMatmul:
    """Swap matrix products for ours.

    Parameters
    ----------
    planner : Planner
    """

    def __init__(self, planner: Planner) -> None:
        self.planner = planner

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        return rewrite_calls(mod, {"matmul": self._matmul})

    def _matmul(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        a, b = call.args
        if not _is_pairwise(a, b):
            return None
        plan = self.planner.planned("batch_matmul", linear_problem(call, int(b.ty.shape[-1])))
        return operator_call(rewriter, call, batch_matmul, [a, b], plan=plan, tile=plan.knobs)


def _is_pairwise(a: relax.Expr, b: relax.Expr) -> bool:
    """Whether ``a @ b`` multiplies float32 matrices one by one: equal leading sizes, known columns."""
    if min(len(a.ty.shape), len(b.ty.shape)) < 2 or not a.ty.dtype == b.ty.dtype == "float32":
        return False
    (*lead_a, _, _), (*lead_b, k, columns) = a.ty.shape, b.ty.shape
    known = isinstance(k, tirx.IntImm) and isinstance(columns, tirx.IntImm)
    return known and tvm_ffi.structural_equal(lead_a, lead_b)
