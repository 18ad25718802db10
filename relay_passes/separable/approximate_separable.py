"""On request: a dense convolution becomes a chain of small ones, by CP, Tucker, spatial, depthwise or fixed factors.

What stands in the chain says `decompose.chain_stages`. No stage but the last is followed by a bias, so zeros that the
layer pads with stay exact wherever in the chain they are added.
"""

from collections.abc import Mapping

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.configs import Method
from tvm_fastconv.decompose.chain_stages import Geometry, Stage
from tvm_fastconv.decompose.factor_chains import CHAINS, FactorChain, chain_of, no_use_for_factors
from tvm_fastconv.topi.conv2d import Conv2dParams

from ..graph.approximated_layers import ApproximatedLayers
from ..graph.conv_call import conv2d_of
from ..graph.layer_names import layer_name, with_layer_name
from ..graph.rewrite import CallRewriter, constant_array


@tvm.transform.module_pass(opt_level=0, name="ApproximateSeparable")
class ApproximateSeparable:
    """Approximate the convolutions that ``methods`` gives factors; those that have no use for them are left alone.

    Parameters
    ----------
    methods : mapping
        Layer name to config.

    Raises
    ------
    MethodError
        A layer asked for cannot be approximated; the message names it.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self.asked = {name: method for name, method in methods.items() if type(method) in CHAINS}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``, in NHWC."""
        return _Layers(self.asked, "be approximated as asked").rewrite(mod)


class _Layers(ApproximatedLayers[Method]):
    """The rules, what they found for the report, and which layers they had to refuse, with the reason."""

    def conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """The stages of the chain, one after the other."""
        name = layer_name(call) or ""
        config = self.asked.get(name)
        if config is None or constant_array(call.args[1]) is None:
            return None
        found = conv2d_of(call)
        if found is None:
            self.notes.refuse(call, "its input is not float32 in NHWC, of known size")
            return None
        params, weight = found
        if useless := no_use_for_factors(config, params.kernel, params.groups):
            self._left(call, useless)
            return None
        try:
            chain = chain_of(weight, config)
        except ValueError as error:
            self.notes.refuse(call, str(error))
            return None
        self._note(name, chain, weight.size)
        data = call.args[0]
        *inner, last = zip(chain.stages, chain.weights, strict=True)
        for stage, factor in inner:
            made = with_layer_name(_convolution(data, stage, factor, params), f"{name}.{stage.name}")
            data = rewriter.builder_.emit(made)
        return with_layer_name(_convolution(data, *last, params), name)

    def matmul(self, _rewriter: CallRewriter, call: relax.Call) -> None:
        """Stays, with the reason."""
        self._left(call, "it is a linear layer")

    def transposed(self, _rewriter: CallRewriter, call: relax.Call) -> None:
        """Stays, with the reason."""
        self._left(call, "it is a transposed convolution")

    def _left(self, call: relax.Call, why: str) -> None:
        name = layer_name(call) or ""
        if name in self.asked:
            self.notes.note(name, reason=f"left as it is: {why}")

    def _note(self, name: str, chain: FactorChain, parameters: int) -> None:
        for stage in chain.stages[:-1]:
            part = f"{stage.name} of {name}"
            self.notes.note(f"{name}.{stage.name}", method=chain.method, approximation=part)
        text = (
            f"approximated: {chain.what}, {100 * chain.parameters / parameters:.3g} % of the parameters; "
            f"the weights are off by {100 * chain.error:.3g} % (Frobenius norm)"
        )
        self.notes.note(name, method=chain.method, approximation=text)


def _convolution(data: relax.Expr, stage: Stage, weight: np.ndarray, params: Conv2dParams) -> relax.Call:
    """``stage`` with ``weight`` and its part of the layer's geometry."""
    whole = Geometry(stride=params.stride, padding=params.padding, dilation=params.dilation)
    own = stage.geometry(whole)
    return relax.op.nn.conv2d(
        data,
        relax.const(np.ascontiguousarray(weight.transpose(0, 2, 3, 1))),
        strides=own.stride,
        padding=own.padding,
        dilation=own.dilation,
        groups=stage.groups,
        data_layout="NHWC",
        kernel_layout="OHWI",
    )
