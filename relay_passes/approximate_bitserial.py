"""On request: a dense layer becomes ``(sign(x) * B) · K · α``, as in XNOR-Net (Rastegari et al., arXiv:1603.05279).

``B`` are the weights' bits with a scale ``α`` per filter (`decompose.binary`). ``K`` is the mean magnitude of the
input under each window (section 3.2, eq. 11): without it the result would not follow the input's size. All of it is
written in standard operators; `DispatchBitserial` recognises the rest. The mean under the windows is a convolution of
one channel, which reports list as a layer of its own, ``<layer>.magnitude``.
"""

from collections.abc import Mapping

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.configs import Bitserial, Method
from tvm_fastconv.decompose.binary import binarize

from .approximate_sign import plus_or_minus_one
from .graph import CallRewriter, constant_array, rewrite_calls
from .layer_findings import note_layer
from .layer_names import layer_name, with_layer_name
from .weight_levels import WeightLevels, weight_levels


@tvm.transform.module_pass(opt_level=0, name="ApproximateBitserial")
class ApproximateBitserial:
    """Binarize the layers that ``methods`` names; those whose weights have that few levels already are left alone.

    Parameters
    ----------
    methods : mapping
        Layer name to config.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self.asked = {name: method for name, method in methods.items() if isinstance(method, Bitserial)}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``, in NHWC."""
        findings: dict[str, dict[str, str]] = {}

        def bits_of(call: relax.Call, weight: np.ndarray) -> int | None:
            config = self.asked.get(layer_name(call) or "")
            if config is None:
                return None
            found = weight_levels(weight)
            enough = isinstance(found, WeightLevels) and len(found.planes) <= config.weight_bits
            return None if enough else config.weight_bits

        def note(call: relax.Call, error: float) -> None:
            text = f"approximated: the weights are off by {100 * error:.0f} % (Frobenius norm)"
            findings[layer_name(call) or ""] = {"approximation": text}

        def conv2d(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
            weight = constant_array(call.args[1])
            bits = None if weight is None else bits_of(call, weight)
            if weight is None or bits is None:
                return None
            found = binarize(weight, bits)
            note(call, found.error)
            helper = f"{layer_name(call)}.magnitude"
            findings[helper] = {"reason": f"helper of {layer_name(call)}: the mean of |x| under each window"}
            size = _mean_magnitude(rewriter, call, weight.shape[1:3], helper)
            binary = relax.Call(
                call.op,
                [
                    rewriter.builder_.emit(plus_or_minus_one(call.args[0])),
                    relax.const(found.weight),
                ],
                call.attrs,
            )
            return relax.op.multiply(rewriter.emit(binary, call), size)

        def matmul(rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
            weight = constant_array(call.args[1])
            bits = None if weight is None or weight.ndim != 2 else bits_of(call, weight.T)
            if weight is None or bits is None:
                return None
            found = binarize(np.ascontiguousarray(weight.T), bits)
            note(call, found.error)
            emit = rewriter.builder_.emit
            size = emit(relax.op.mean(emit(relax.op.abs(call.args[0])), [-1], keepdims=True))
            binary = relax.op.matmul(
                rewriter.builder_.emit(plus_or_minus_one(call.args[0])),
                relax.const(np.ascontiguousarray(found.weight.T)),
            )
            return relax.op.multiply(rewriter.emit(binary, call), size)

        return note_layer(rewrite_calls(mod, {"nn.conv2d": conv2d, "matmul": matmul}), findings)


def _mean_magnitude(
    rewriter: CallRewriter, call: relax.Call, kernel: tuple[int, ...], name: str
) -> relax.Expr:
    """K: the mean of |x| over channels and window, (n, oh, ow, 1), by a convolution called ``name``."""
    emit, a = rewriter.builder_.emit, call.attrs
    mean = emit(relax.op.mean(emit(relax.op.abs(call.args[0])), [3], keepdims=True))
    box = relax.const(np.full((1, *kernel, 1), 1 / np.prod(kernel), np.float32))
    sums = relax.op.nn.conv2d(mean, box, a.strides, a.padding, a.dilation, 1, "NHWC", "OHWI")
    return emit(with_layer_name(sums, name))
