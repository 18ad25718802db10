"""Products of two computed matrices → ours. Those with constant weights are `DispatchDense`'s."""

import math

import tvm
import tvm_ffi
from tvm import relax, tirx

from tvm_fastconv.topi.batch_matmul import batch_matmul
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.cpu.tile import TileProblem, default_knobs

from ..graph.conv_call import extent
from ..graph.operator_call import operator_call
from ..graph.rewrite import CallRewriter, rewrite_calls


@tvm.transform.module_pass(opt_level=0, name="DispatchBatchMatmul")
class DispatchBatchMatmul:
    """Swap matrix products for ours, with default knobs for the current target.

    Parameters
    ----------
    target : Target
    """

    def __init__(self, target: tvm.target.Target) -> None:
        self.machine = Machine.of(target)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        return rewrite_calls(mod, {"matmul": self._matmul})

    def _matmul(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        a, b = call.args
        if not _is_pairwise(a, b):
            return None
        *lead, rows, k = (extent(n) for n in a.ty.shape)
        out = int(b.ty.shape[-1])
        problem = TileProblem(
            batch=math.prod(lead), height=1, width=rows, out_channels=out, groups=1, reduction=k,
            strip_row_bytes=4 * k * rows, weight_bytes=4 * k * out,
        )  # fmt: skip
        knobs = default_knobs(problem, self.machine)
        return operator_call(
            rewriter, call, batch_matmul, [a, b], op="batch_matmul", knobs=knobs.to_json(), tile=knobs
        )


def _is_pairwise(a: relax.Expr, b: relax.Expr) -> bool:
    """Whether ``a @ b`` multiplies float32 matrices one by one: equal leading sizes, known columns."""
    if min(len(a.ty.shape), len(b.ty.shape)) < 2 or not a.ty.dtype == b.ty.dtype == "float32":
        return False
    (*lead_a, _, _), (*lead_b, k, columns) = a.ty.shape, b.ty.shape
    known = isinstance(k, tirx.IntImm) and isinstance(columns, tirx.IntImm)
    return known and tvm_ffi.structural_equal(lead_a, lead_b)
