"""A convolution or linear layer whose constant weights are sparse."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from tvm import relax

from tvm_fastconv.configs import Lookup
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.lookup_conv2d import LookupProblem
from tvm_fastconv.topi.lookup_dense import LookupDenseProblem

from ..graph.conv_call import conv2d_of, conv_problem, extent, linear_of, plane_of
from ..graph.near_miss import NearMiss
from ..graph.rewrite import CallRewriter, op_name

MAX_DENSITY = 0.6
"""Share of nonzeros up to which weights count as sparse; none was faster as lookups above it, on any shape measured."""


@dataclass(frozen=True)
class SparseLayer:
    """A layer in the graph.

    Attributes
    ----------
    call : Call
        ``nn.conv2d`` in NHWC, or ``matmul`` by a matrix.
    params : Conv2dParams
        Its geometry; a linear layer is a 1×1 convolution of a 1×1 plane.
    weight : ndarray, (o, c / groups, kh, kw), float32
    dictionary : Call, optional
        The 1×1 convolution or product in front, read by this layer alone.
    atoms : ndarray, (k, c, 1, 1), optional
        Its weight.
    atom_padding : tuple of int
        Its padding.
    """

    call: relax.Call
    params: Conv2dParams
    weight: np.ndarray
    dictionary: relax.Call | None = None
    atoms: np.ndarray | None = None
    atom_padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def params_with_padding(self) -> Conv2dParams:
        """The geometry with the dictionary's padding: it has no bias, so that its atoms are 0 where its input is."""
        top, left, bottom, right = (
            a + b for a, b in zip(self.params.padding, self.atom_padding, strict=True)
        )
        return dataclasses.replace(self.params, padding=(top, left, bottom, right))

    @property
    def density(self) -> float:
        """Share of nonzeros."""
        return np.count_nonzero(self.weight) / self.weight.size

    @property
    def batch(self) -> int:
        """Items, or rows of a linear layer; 1 if unknown."""
        shape = list(self.call.ty.shape)
        return math.prod(extent(n) for n in (shape[:-1] if op_name(self.call) == "matmul" else shape[:1]))

    @property
    def is_flat(self) -> bool:
        """Whether every output reads its whole item: a linear layer, or a kernel as large as the plane."""
        if op_name(self.call) == "matmul":
            return True
        whole = (plane_of(self.call.args[0]) or ())[:2] == self.params.kernel
        return whole and self.params.padding == (0, 0, 0, 0) and self.params.groups == 1

    @property
    def nonzeros(self) -> int:
        """Coefficients."""
        return int(np.count_nonzero(self.weight))

    @property
    def flat_problem(self) -> LookupDenseProblem:
        """What is asked of `lookup_dense`."""
        outputs, inputs = len(self.weight), self.weight[0].size
        return LookupDenseProblem(batch=self.batch, inputs=inputs, outputs=outputs, nonzeros=self.nonzeros)

    def problem(self, params: Conv2dParams) -> LookupProblem:
        """What is asked of `lookup_conv2d`, with the geometry ``params``."""
        return LookupProblem(**vars(conv_problem(self.call, params)), nonzeros=self.nonzeros)

    @property
    def merged_shape(self) -> tuple[int, ...] | None:
        """Shape (o, c, kh, kw) of the weights of dictionary and layer as one convolution; ``None`` without planes."""
        if self.atoms is None or op_name(self.call) == "matmul":
            return None
        return (len(self.weight), self.atoms.shape[1], *self.params.kernel)

    def merged(self) -> np.ndarray:
        """Those weights, summed in float64. The geometry is `params_with_padding`."""
        assert self.atoms is not None, "a layer without a dictionary has nothing to merge"
        atoms = self.atoms[:, :, 0, 0].astype(np.float64)
        together = np.tensordot(self.weight.astype(np.float64), atoms, axes=(1, 0))
        return together.transpose(0, 3, 1, 2).astype(np.float32)


def sparse_layer(rewriter: CallRewriter, call: relax.Call, asked: Lookup | None) -> SparseLayer | NearMiss:
    """The layer if its weights are sparse, or hold any zeros and lookups are ``asked`` for.

    What was approximated on request counts as sparse, however many coefficients it took.
    """
    found = conv2d_of(call) if op_name(call) == "nn.conv2d" else linear_of(call)
    if found is None:
        return NearMiss("it is no float32 convolution of planes of known size, and no linear layer")
    layer = SparseLayer(call, *found)
    if layer.params.groups > 1 and layer.weight.shape[1] == 1:
        return NearMiss("it is depthwise")
    if min(layer.params.padding) < 0:
        return NearMiss(f"its padding is {layer.params.padding}")
    if layer.density == 0:
        return NearMiss("all of its weights are 0")
    if layer.density == 1 and (asked is None or asked.dictionary_size is None):
        return NearMiss("none of its weights is 0")
    if layer.density > MAX_DENSITY and asked is None:
        return NearMiss(f"{100 * layer.density:.3g} % of its weights are not 0")
    dictionary = rewriter.definition(call.args[0])
    alone = rewriter.uses[call.args[0]] <= 1
    if not alone or op_name(dictionary) != op_name(call) or layer.params.groups > 1:
        return layer
    inner = conv2d_of(dictionary) if op_name(call) == "nn.conv2d" else linear_of(dictionary)
    if inner is None or min(inner[0].padding) < 0:
        return layer
    plain = Conv2dParams(kernel=(1, 1), out_channels=layer.weight.shape[1], padding=inner[0].padding)
    if inner[0] != plain:
        return layer
    return dataclasses.replace(layer, dictionary=dictionary, atoms=inner[1], atom_padding=inner[0].padding)
