"""A convolution or linear layer whose operands both have few levels: what it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tvm import relax, tirx

from tvm_fastconv.topi.bitserial_conv2d import BitserialParams, BitserialProblem, weight_values
from tvm_fastconv.topi.bitserial_depthwise_conv2d import MAX_TAPS, BitserialDepthwiseProblem
from tvm_fastconv.topi.borders import FewLevelParams
from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
from tvm_fastconv.topi.int8_conv2d import Int8Problem

from ..dense.canonicalize_padding import constant_border
from ..graph.conv_call import conv2d_of, extent, linear_of
from ..graph.near_miss import NearMiss
from ..graph.rewrite import CallRewriter, op_name
from .activation_levels import ActivationLevels, activation_levels
from .weight_levels import WeightLevels, weight_levels


@dataclass(frozen=True)
class FewLevelLayer:
    """A layer in the graph.

    Attributes
    ----------
    call : Call
        ``nn.conv2d`` in NHWC, or ``matmul`` with a constant of two axes.
    data : Expr
        Its input, without a border of one value.
    conv : Conv2dParams
        Its geometry, that border included; a linear layer is a 1×1 convolution.
    padding_value : int
        In units of ``activation.scale``.
    weight : ndarray, (o, c / groups, kh, kw), float32
    """

    call: relax.Call
    data: relax.Expr
    activation: ActivationLevels
    levels: WeightLevels
    conv: Conv2dParams
    padding_value: int
    weight: np.ndarray

    @property
    def params(self) -> FewLevelParams:
        """The layer on the integers that its input stands for."""
        return FewLevelParams(
            conv=self.conv,
            channels=self.weight.shape[1] * self.conv.groups,
            step=self.activation.step,
            offset=self.activation.offset,
            padding_value=self.padding_value,
        )

    @property
    def bitserial(self) -> BitserialParams:
        """The layer on bits."""
        return BitserialParams(
            **vars(self.params), activation_bits=self.activation.digits, bit_planes=self.levels.bit_planes
        )

    @property
    def is_bitserial_depthwise(self) -> bool:
        """Whether it is one plane of weights on one bit per group, as many outputs as inputs, and not too many taps."""
        single = self.activation.digits == 1 and self.levels.bit_planes == (1,) and self._taps <= MAX_TAPS
        return single and 1 < self.conv.groups == self.conv.out_channels == self.params.channels

    @property
    def packed_groups(self) -> int:
        """Groups of channels that begin with a word of their own."""
        return 1 if self.is_bitserial_depthwise else self.conv.groups

    @property
    def scale(self) -> np.ndarray:
        """What the integer sums are multiplied by, (o,), float64."""
        return self.levels.scale * self.activation.scale

    @cached_property
    def integers(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights as small integers, and their scale: (o, c / groups, kh, kw) int64, (o,) float64."""
        values = weight_values(self.levels.signs, self.levels.bit_planes)
        return (values // 2, 2 * self.scale) if (values % 2 == 0).all() else (values, self.scale)

    @property
    def bitserial_problem(self) -> BitserialProblem:
        """What is asked of an operator on bits."""
        kind = BitserialDepthwiseProblem if self.is_bitserial_depthwise else BitserialProblem
        return kind(**self._plane, layer=self.bitserial)

    @property
    def int8_problem(self) -> Int8Problem:
        """What is asked of the operator on bytes."""
        return Int8Problem(**self._plane, layer=self.params)

    @property
    def float_problem(self) -> ConvProblem:
        """What is asked of the dense operator."""
        return ConvProblem(**self._plane, channels=self.params.channels, conv=self.conv)

    @property
    def _plane(self) -> dict[str, Any]:
        """Of the input."""
        batch, height, width, _ = plane_shape(self.data.ty.shape)
        return {"batch": extent(batch), "height": int(height), "width": int(width)}

    @property
    def _taps(self) -> int:
        return self.conv.kernel[0] * self.conv.kernel[1]


def few_level_layer(rewriter: CallRewriter, call: relax.Call) -> FewLevelLayer | NearMiss | None:
    """The layer; ``None`` if its input has no few levels."""
    found = few_level_candidate(call)
    if found is None:
        return None
    (conv, weight), data, border = found, call.args[0], 0.0
    if conv.padding == (0, 0, 0, 0) and (bordered := constant_border(rewriter, data, "NHWC")) is not None:
        data, border, padding = bordered
        conv = dataclasses.replace(conv, padding=padding)
    activation = activation_levels(rewriter, data)
    if activation is None and op_name(rewriter.definition(data)) != "sign":
        return None
    levels = weight_levels(weight)
    if isinstance(levels, NearMiss):
        return levels
    if isinstance(activation, NearMiss):
        return activation
    padding_value = padding_level(border, activation)
    if padding_value is None:
        return NearMiss(f"padding with {border:g} is on no level")
    if activation is None:
        return NearMiss("many values in front of the sign are exactly 0, so that it has three levels")
    return FewLevelLayer(call, data, activation, levels, conv, padding_value, weight)


def transposed_on_bits(rewriter: CallRewriter, call: relax.Call) -> NearMiss | None:
    """Of a transposed convolution both of whose operands have few levels."""
    found = conv2d_of(call)
    if found is None or not isinstance(weight_levels(found[1]), WeightLevels):
        return None
    few = isinstance(activation_levels(rewriter, call.args[0]), ActivationLevels)
    return NearMiss("transposed convolutions do not run on bits") if few else None


def obstacle_to_levels(call: relax.Call) -> str:
    """Why `few_level_layer` knows nothing of a layer with constant weights, whatever levels it has."""
    if op_name(call) == "nn.conv2d":
        return "it is no float32 convolution of planes of known size"
    return "it is no float32 linear layer on rows of known size"


def padding_level(border: float, activation: ActivationLevels | None) -> int | None:
    """``border`` in units of ``activation.scale``, or of a sign's where that is ``None``; ``None`` if no multiple."""
    level = border / (activation.scale if activation else 1.0)
    return round(level) if abs(level - round(level)) <= 1e-6 else None


def few_level_candidate(call: relax.Call) -> tuple[Conv2dParams, np.ndarray] | None:
    """Parameters and weight of a convolution, or of a linear layer whose rows are known but for the batch."""
    if op_name(call) == "nn.conv2d":
        return conv2d_of(call)
    known = all(isinstance(n, tirx.IntImm) for n in list(call.args[0].ty.shape)[1:])
    return linear_of(call) if known else None


def plane_shape(shape: Sequence[Any]) -> list[Any]:
    """``shape`` in NHWC; what is no plane is a row of pixels, or one such row for each of an unknown batch."""
    if len(shape) == 4:
        return list(shape)
    batch, *rows, channels = shape
    per_batch = math.prod(int(n) for n in rows)
    if isinstance(batch, tirx.IntImm):
        return [1, 1, int(batch) * per_batch, channels]
    return [batch, 1, per_batch, channels]
