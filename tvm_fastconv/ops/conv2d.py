"""Convolution of the signs of a tensor by the signs of a weight."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from ..errors import InputError
from .places import compiled_for, run, same_place, target_of
from .tensors import aligned, check_tensor, compiling, readable, signs

Pair = tuple[int, int]

SHAPES = 256
"""For which code is kept; that of the one that was not used for longest is made anew."""


@dataclass(frozen=True)
class _Geometry:
    """A convolution apart from its input."""

    weight: tuple[int, int, int, int]
    stride: Pair
    padding: Pair
    dilation: Pair

    @property
    def options(self) -> dict[str, Pair]:
        """As PyTorch calls them."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}


@torch.compiler.disable
def xnor_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
) -> torch.Tensor:
    """Convolve signs: ``torch.nn.functional.conv2d(sign(x), sign(weight), ...)``, exactly, on packed bits.

    A value of 0 or more counts as +1, anything else, NaN included, as −1; what is padded adds nothing. The gradient
    is the straight-through estimator of Hubara et al. (arXiv:1602.02830), that of ``hardtanh`` in place of the sign;
    PyTorch computes it in FP32.

    Parameters
    ----------
    x : Tensor, (n, c, h, w)
    weight : Tensor, (o, c, kh, kw)
        Each of float32, float64, float16 or bfloat16, both in memory of the CPU or of the first GPU. Float32 in the
        memory format ``channels_last`` is read in place.
    stride, padding, dilation : int or pair of int

    Returns
    -------
    Tensor, (n, o, oh, ow), float32
        In the memory format ``channels_last``. Exact for sums of up to 2^24 products.

    Raises
    ------
    InputError
        When an argument is no such tensor, or the shapes do not fit.

    Notes
    -----
    Code is compiled when a shape comes for the first time. A call uses ``torch.get_num_threads()`` threads.
    """
    check_tensor("xnor_conv2d", "x", x)
    check_tensor("xnor_conv2d", "weight", weight)
    same_place("xnor_conv2d", x=x, weight=weight)
    geometry = _Geometry(tuple(weight.shape), _pair(stride), _pair(padding), _pair(dilation))
    _check_shapes(x, geometry)
    return _XnorConv2d.apply(x, weight, geometry)


def _pair(value: int | Pair) -> Pair:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)  # type: ignore[return-value]


def _check_shapes(x: torch.Tensor, geometry: _Geometry) -> None:
    shapes = f"xnor_conv2d: x has shape {tuple(x.shape)}, weight {geometry.weight}"
    if x.ndim != 4 or len(geometry.weight) != 4:
        raise InputError(f"{shapes}; expected four dimensions each")
    if x.shape[1] != geometry.weight[1]:
        raise InputError(
            f"{shapes}: the {x.shape[1]} channels of x are not the {geometry.weight[1]} of weight"
        )
    for name, lowest in (("stride", 1), ("padding", 0), ("dilation", 1)):
        value = getattr(geometry, name)
        if len(value) != 2 or not all(isinstance(each, int) and each >= lowest for each in value):
            raise InputError(f"xnor_conv2d: {name} is {value}; allowed: {lowest} or more, once or twice")
    for axis in (0, 1):
        taps = geometry.dilation[axis] * (geometry.weight[axis + 2] - 1) + 1
        if x.shape[axis + 2] + 2 * geometry.padding[axis] < taps:
            raise InputError(f"{shapes}: the padded plane is smaller than the kernel")


class _XnorConv2d(torch.autograd.Function):
    """The convolution, with the straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, geometry: _Geometry) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return _sums(x.detach(), weight.detach(), geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grads = _gradients(grad, signs(x), signs(weight), ctx.geometry, ctx.needs_input_grad[:2])
        return _passed_through(grads[0], x), _passed_through(grads[1], weight), None


def _gradients(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, geometry: _Geometry, wanted: tuple[bool, ...]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Of a convolution of ``x`` by ``weight``, those that are ``wanted``."""
    options = (geometry.stride, geometry.padding, geometry.dilation)
    found = torch.ops.aten.convolution_backward(
        grad, x, weight, None, *options, False, (0, 0), 1, [*wanted, False]
    )
    return found[0], found[1]


def _passed_through(grad: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor | None:
    return None if grad is None else torch.where(x.abs() <= 1, grad, 0).to(x.dtype)


def _sums(x: torch.Tensor, weight: torch.Tensor, geometry: _Geometry) -> torch.Tensor:
    """The convolution without a gradient."""
    plane = readable(x.permute(0, 2, 3, 1))
    with compiling:
        kernel = _compile(tuple(plane.shape), geometry, x.device.type)
    words = torch.empty(kernel.words, dtype=torch.uint32, device=x.device)
    sums = torch.empty(kernel.sums, dtype=torch.float32, device=x.device)
    run(kernel.pack, plane, kernel.thresholds, words)
    run(kernel.convolve, words, *kernel.prepare(weight), sums)
    return sums.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Kernel:
    """Code for one shape, and what it works on.

    Attributes
    ----------
    pack, convolve : Any
        Compiled: floats to words, words and a prepared weight to sums.
    thresholds : Tensor
        Which floats are +1.
    prepare : callable
        Of a weight: its words, and what padding takes from the sums.
    words, sums : tuple of int
        Shapes.
    """

    pack: Any
    convolve: Any
    thresholds: torch.Tensor
    prepare: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    words: tuple[int, ...]
    sums: tuple[int, ...]


@functools.lru_cache(SHAPES)
def _compile(plane: tuple[int, int, int, int], geometry: _Geometry, place: str) -> _Kernel:
    from tvm import te

    from tvm_fastconv.topi.bitpack import BitpackProblem, bitpack, threshold_rows
    from tvm_fastconv.topi.bits import word_count
    from tvm_fastconv.topi.bitserial_conv2d import (
        BitserialParams,
        BitserialProblem,
        bitserial_conv2d,
        border_table,
        pack_signs,
    )
    from tvm_fastconv.topi.conv2d import Conv2dParams
    from tvm_fastconv.topi.machines import machine_of
    from tvm_fastconv.topi.operators import operator_attrs, te_function
    from tvm_fastconv.topi.planner import Planner
    from tvm_fastconv.topi.schedules import schedule_primfunc

    target = target_of(place)
    machine = machine_of(target)
    planner = Planner(machine)
    batch, height, width, channels = plane
    outputs, _, rows, columns = geometry.weight
    conv = Conv2dParams(
        kernel=(rows, columns),
        out_channels=outputs,
        stride=geometry.stride,
        padding=geometry.padding * 2,
        dilation=geometry.dilation,
    )
    size: dict[str, Any] = {"batch": batch, "height": height, "width": width}
    packing = planner.planned("bitpack", BitpackProblem(**size, channels=channels))
    layer = BitserialParams(conv=conv, channels=channels)
    plan = planner.planned("bitserial_conv2d", BitserialProblem(**size, layer=layer))
    params = layer.in_tile(plan.knobs, machine)
    thresholds = threshold_rows(np.zeros(channels, np.float32), 1)

    def prepare(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        positive = (weight >= 0).cpu().numpy()[None]
        table = border_table(positive, params, height, width)
        return aligned(pack_signs(positive, plan.knobs.panel), place), aligned(table, place)

    def convolve(words: te.Tensor, weight: te.Tensor, table: te.Tensor) -> te.Tensor:
        attrs = operator_attrs("bitserial_conv2d", plan.problem, plan.knobs)
        bytewise = not machine.counts_words
        sums = bitserial_conv2d(words, weight, table, params, plan.knobs, attrs, bytewise)
        return te.compute(sums.shape, lambda *at: sums[at].astype("float32"), name="floats")

    words = np.empty((batch, height, width, word_count(channels)), np.uint32)
    weight = [tensor.cpu().numpy() for tensor in prepare(torch.empty(geometry.weight))]
    attrs = operator_attrs("bitpack", packing.problem, packing.knobs)
    funcs = (
        te_function(bitpack, (np.empty(plane, np.float32), thresholds), attrs=attrs),
        te_function(convolve, (words, *weight)),
    )
    pack, run_tile = (compiled_for(target, schedule_primfunc(func, machine)) for func in funcs)
    sums = (batch, *conv.output_size(height, width), outputs)
    return _Kernel(pack, run_tile, aligned(thresholds, place), prepare, words.shape, sums)
