"""3×3 and 5×5 convolutions of stride 1 → Winograd, where it is faster by estimate and the weights allow it.

F(4×4) and F(2×2) compete with each other and with the direct convolution. A candidate is tried on the layer's own
weights first: `MAX_ERROR` bounds what it may cost in accuracy. A layer whose output decides something (a sign, a
comparison, a rounding) stays direct.
"""

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.cpu.tile import TileProblem, cycles, default_knobs
from tvm_fastconv.topi.schedules.cpu.winograd import WinogradKnobs, default_winograd_knobs, winograd_cycles
from tvm_fastconv.topi.winograd_conv2d import OUTPUTS, pack_winograd_weight, winograd_conv2d, winograd_error

from ..graph.conv_call import absorb_transpose, conv2d_of, direct_problem, layer_report
from ..graph.operator_call import operator_call
from ..graph.rewrite import CallRewriter, rewrite_calls
from ..graph.thresholds import decisive_values

MAX_ERROR = 2e-5
"""Of the largest output; what a float layer may differ by from the same layer in plain float32."""


@tvm.transform.module_pass(opt_level=0, name="DispatchWinograd")
class DispatchWinograd:
    """Swap 3×3 and 5×5 convolutions for Winograd's algorithm, with default knobs for the current target.

    Parameters
    ----------
    target : Target
    """

    def __init__(self, target: tvm.target.Target) -> None:
        self.machine = Machine.of(target)
        self.decisive: set[relax.Var] = set()

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``."""
        functions = [func for func in mod.functions.values() if isinstance(func, relax.Function)]
        self.decisive = set().union(*map(decisive_values, functions))
        return rewrite_calls(mod, {"nn.conv2d": self._conv2d})

    def _conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        found = conv2d_of(call)
        if found is None or rewriter.binding in self.decisive or not is_candidate(found[0]):
            return None
        params, weight = found
        direct = direct_problem(call, params, weight)
        slowest = direct.batch * cycles(direct, default_knobs(direct, self.machine), self.machine)
        costs = {m: winograd_cost(direct, weight, m, self.machine) for m in OUTPUTS[params.kernel[0]]}
        for m in sorted((m for m in costs if costs[m][0] < slowest), key=lambda m: costs[m][0]):
            if (error := winograd_error(weight, m)) <= MAX_ERROR:
                reason = (
                    f"F({m}x{m}): {slowest / costs[m][0]:.1f} times faster by estimate, error {error:.0e}"
                )
                return self._winograd(rewriter, call, params, weight, costs[m][1], reason)
        return None

    def _winograd(
        self,
        rewriter: CallRewriter,
        call: relax.Call,
        params: Conv2dParams,
        weight: np.ndarray,
        knobs: WinogradKnobs,
        reason: str,
    ) -> relax.Expr:
        data, params = absorb_transpose(rewriter, call.args[0], params)
        packed = pack_winograd_weight(weight, knobs.m, knobs.panel)
        report = layer_report("dense", call, weight, reason)
        report |= {"weight_bytes": packed.nbytes, "operations": _operations(report, knobs)}
        return operator_call(
            rewriter,
            call,
            winograd_conv2d,
            [data, relax.const(packed)],
            op="winograd_conv2d",
            knobs=knobs.to_json(),
            report=report,
            params=params,
            m=knobs.m,
            tile=knobs,
        )


def winograd_cost(
    direct: TileProblem, weight: np.ndarray, m: int, machine: Machine
) -> tuple[float, WinogradKnobs]:
    """Estimated cycles of F(m×m), and its knobs."""
    channels, tiles_w, size = weight.shape[1], -(-direct.width // m), m + weight.shape[-1] - 1
    problem = TileProblem(
        batch=direct.batch,
        height=-(-direct.height // m),
        width=tiles_w,
        out_channels=direct.out_channels,
        groups=1,
        reduction=channels,
        strip_row_bytes=4 * size**2 * tiles_w * (channels + direct.out_channels),
        weight_bytes=4 * size**2 * channels * direct.out_channels,
    )
    knobs = default_winograd_knobs(problem, machine, m, size)
    return winograd_cycles(problem, knobs, machine), knobs


def is_candidate(params: Conv2dParams) -> bool:
    """Whether Winograd's algorithm applies: 3×3 or 5×5, of one group and stride 1."""
    plain = params.stride == params.dilation == params.input_dilation == (1, 1)
    square = params.kernel[0] == params.kernel[1] and params.kernel[0] in OUTPUTS
    return square and plain and params.groups == 1 and min(params.padding) >= 0


def _operations(report: dict, knobs: WinogradKnobs) -> int:
    n, o, height, width = report["output_shape"]
    tiles = -(-height // knobs.m) * -(-width // knobs.m)
    return n * o * report["input_shape"][1] * tiles * knobs.size**2
