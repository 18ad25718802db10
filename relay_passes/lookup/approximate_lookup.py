"""On request: a dense layer becomes lookups, as in LCNN (Bagherinezhad et al., arXiv:1611.06473).

A 1×1 convolution with a dictionary (``decompose.lookup``), then the layer's own convolution with sparse coefficients
in place of its weights. The dictionary has no bias, so zeros that the layer pads with stay exact. Groups of channels
have a dictionary each. A linear layer becomes two matrix products in the same way.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tvm
from tvm import relax

from tvm_fastconv.configs import Lookup, Method
from tvm_fastconv.decompose.lookup import lookup

from ..graph.approximated_layers import ApproximatedLayers
from ..graph.layer_names import layer_name, with_layer_name
from ..graph.rewrite import CallRewriter, constant_array


@tvm.transform.module_pass(opt_level=0, name="ApproximateLookup")
class ApproximateLookup:
    """Approximate the layers that ``methods`` gives a dictionary; those that are sparse enough already are left alone.

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
        self.asked = {
            name: method
            for name, method in methods.items()
            if isinstance(method, Lookup) and method.dictionary_size is not None
        }

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite every Relax function of ``mod``, in NHWC."""
        return _Layers(self.asked, "become lookups").rewrite(mod)


class _Layers(ApproximatedLayers[Lookup]):
    """The rules, what they found for the report, and which layers they had to leave alone, with the reason."""

    def conv2d(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """A 1×1 convolution, then a sparse one."""
        weight = self._weight(call)
        if weight is None:
            return None
        if call.attrs.data_layout != "NHWC" or call.attrs.kernel_layout != "OHWI":
            self.notes.refuse(
                call, f"its layouts are {call.attrs.data_layout} and {call.attrs.kernel_layout}"
            )
            return None
        groups = int(call.attrs.groups)
        found = self._factors(call, weight.transpose(0, 3, 1, 2), groups)
        if found is None:
            return None
        dictionary, coefficients = found
        kernel = relax.const(np.ascontiguousarray(dictionary[:, None, None, :]))
        products = relax.op.nn.conv2d(
            call.args[0], kernel, groups=groups, data_layout="NHWC", kernel_layout="OHWI"
        )
        sparse = relax.const(np.ascontiguousarray(coefficients.transpose(0, 2, 3, 1)))
        return relax.Call(call.op, [_emit(rewriter, call, products), sparse], call.attrs, span=call.span)

    def matmul(self, rewriter: CallRewriter, call: relax.Call) -> relax.Expr | None:
        """A product with the dictionary, then a sparse one."""
        weight = self._weight(call)
        if weight is None:
            return None
        if weight.ndim != 2:
            self.notes.refuse(call, f"its weights have {weight.ndim} dimensions, not the 2 of a linear layer")
            return None
        found = self._factors(call, weight.T[:, :, None, None], groups=1)
        if found is None:
            return None
        dictionary, coefficients = found
        products = relax.op.matmul(call.args[0], relax.const(np.ascontiguousarray(dictionary.T)))
        sparse = relax.const(np.ascontiguousarray(coefficients[:, :, 0, 0].T))
        return relax.Call(call.op, [_emit(rewriter, call, products), sparse], call.attrs, span=call.span)

    def transposed(self, _rewriter: CallRewriter, call: relax.Call) -> None:
        """Stays, and is refused if it was asked for."""
        if self._weight(call) is not None:
            self.notes.refuse(call, "it is a transposed convolution")

    def _weight(self, call: relax.Call) -> np.ndarray | None:
        """The layer's weight if it is to be approximated."""
        config, weight = self.asked.get(layer_name(call) or ""), constant_array(call.args[1])
        if config is None or weight is None:
            return None
        sparse = config.density is not None and np.count_nonzero(weight) <= config.density * weight.size
        return None if sparse else weight

    def _factors(
        self, call: relax.Call, weight: np.ndarray, groups: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Dictionary (groups · k, c / groups) and coefficients (o, k, kh, kw) of ``weight`` (o, c / groups, kh, kw)."""
        name = layer_name(call) or ""
        fields = dataclasses.asdict(self.asked[name])
        try:
            found = [lookup(part, **fields) for part in np.split(weight, groups)]
        except ValueError as error:
            self.notes.refuse(call, str(error))
            return None
        dictionary = np.concatenate([factors.dictionary for factors in found])
        coefficients = np.concatenate([factors.coefficients for factors in found])
        share = np.count_nonzero(coefficients) / coefficients.size
        size = np.linalg.norm(weight) or 1.0
        off = np.linalg.norm(weight - np.concatenate([factors.weight for factors in found])) / size
        text = (
            f"approximated: {fields['dictionary_size']} atoms, {100 * share:.3g} % of the coefficients; "
            f"the weights are off by {100 * off:.3g} % (Frobenius norm)"
        )
        self.notes.note(name, approximation=text)
        return dictionary, coefficients


def _emit(rewriter: CallRewriter, call: relax.Call, products: relax.Call) -> relax.Var:
    """Bind the dictionary's ``products`` under a name of their own."""
    return rewriter.builder_.emit(with_layer_name(products, f"{layer_name(call)}.dictionary"))
