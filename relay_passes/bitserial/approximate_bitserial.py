"""On request: a dense layer becomes ``(sign(x) * B) · K · α``, as in XNOR-Net (Rastegari et al., arXiv:1603.05279).

``B`` are the weights' bits with a scale ``α`` per filter (`decompose.few_levels`). ``K`` is the mean magnitude of the
input under each window, in each group of channels (section 3.2, eq. 11): without it the result would not follow the
input's size. All of it is written in standard operators; `DispatchBitserial` recognises the rest. The mean under the
windows is a convolution, which reports list as a layer of its own, ``<layer>.magnitude``. An operand that has so few
levels already is kept as it is.
"""

from collections.abc import Mapping

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.configs import Bitserial, Method
from tvm_fastconv.decompose.few_levels import few_levels

from ..graph.layer_names import layer_name, with_layer_name
from ..graph.layer_notes import LayerNotes
from ..graph.rewrite import CallRewriter, constant_array, keep_name, op_name, rewrite_calls
from .approximate_sign import plus_or_minus_one
from .few_level_layers import FewLevelLayer, few_level_candidate, few_level_layer
from .weight_levels import WeightLevels, weight_levels


@tvm.transform.module_pass(opt_level=0, name="ApproximateBitserial")
class ApproximateBitserial:
    """Give few levels to the layers that ``methods`` names; those that have so few already are left alone.

    Parameters
    ----------
    methods : mapping
        Layer name to config.

    Raises
    ------
    MethodError
        A layer would need the range of its activations; the message names it.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self.asked = {name: method for name, method in methods.items() if isinstance(method, Bitserial)}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``, in NHWC."""
        layers = _Layers(self.asked)
        rules = {"nn.conv2d": layers.layer, "matmul": layers.layer}
        return layers.notes.written_to(rewrite_calls(mod, rules))


class _Layers:
    """Rewrites the layers of one module, and notes what that costs."""

    def __init__(self, asked: Mapping[str, Bitserial]) -> None:
        self.asked = asked
        self.notes = LayerNotes()

    def layer(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """Rule for ``nn.conv2d`` and ``matmul``."""
        config = self.asked.get(layer_name(call) or "")
        if config is None or few_level_candidate(call) is None:
            return None
        weight, error = _few_levels(call, config.weight_bits)
        fewer = relax.Call(call.op, [call.args[0], weight], call.attrs)
        exact = few_level_layer(rewriter, fewer)
        if isinstance(exact, FewLevelLayer) and (error is None or exact.activation.digits == 1):
            return None if error is None else self._noted(call, error, keep_name(fewer, call))
        if config.activation_bits > 1:
            self.notes.refuse(
                call,
                f"activation_bits is {config.activation_bits}, for which the range of its input must be known; "
                "compress_ the model with calibration first",
            )
            return None
        signs = rewriter.builder_.emit(plus_or_minus_one(call.args[0]))
        sums = rewriter.emit(relax.Call(call.op, [signs, weight], call.attrs), call)
        return self._noted(call, error, relax.op.multiply(sums, self._magnitude(rewriter, call)))

    def _noted(self, call: relax.Call, error: float | None, made: relax.Expr) -> relax.Expr:
        what = (
            "the input is its sign times its mean magnitude; the weights are kept"
            if error is None
            else f"the weights are off by {100 * error:.0f} % (Frobenius norm)"
        )
        self.notes.note(layer_name(call) or "", approximation=f"approximated: {what}")
        return made

    def _magnitude(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr:
        """K: the mean of |x| over channels and window, one per pixel and group, in the channels of the result."""
        emit = rewriter.builder_.emit
        sizes = emit(relax.op.abs(call.args[0]))
        if op_name(call) == "matmul":
            return emit(relax.op.mean(sizes, [-1], keepdims=True))
        name, a = f"{layer_name(call)}.magnitude", call.attrs
        self.notes.note(name, reason=f"helper of {layer_name(call)}: the mean of |x| under each window")
        groups, (batch, height, width, channels) = int(a.groups), sizes.ty.shape
        grouped = emit(relax.op.reshape(sizes, [batch, height, width, groups, int(channels) // groups]))
        mean = emit(relax.op.mean(grouped, [4]))
        taps = [int(n) for n in list(call.args[1].ty.shape)[1:3]]
        box = relax.const(np.full((groups, *taps, 1), 1 / np.prod(taps), np.float32))
        size = relax.op.nn.conv2d(mean, box, a.strides, a.padding, a.dilation, groups, "NHWC", "OHWI")
        size = emit(with_layer_name(size, name))
        return size if groups == 1 else emit(relax.op.repeat(size, int(call.ty.shape[3]) // groups, axis=3))


def _few_levels(call: relax.Call, bits: int) -> tuple[relax.Expr, float | None]:
    """The weights of ``call`` in so many bits, and their relative error; they themselves if they have no more."""
    weight = constant_array(call.args[1])
    assert weight is not None, "only layers with constant weights get here"
    by_filter = weight.T if op_name(call) == "matmul" else weight
    levels = weight_levels(by_filter)
    if isinstance(levels, WeightLevels) and len(levels.bit_planes) <= bits:
        return call.args[1], None
    found = few_levels(np.ascontiguousarray(by_filter), bits)
    made = found.weight.T if op_name(call) == "matmul" else found.weight
    return relax.const(np.ascontiguousarray(made)), found.error
