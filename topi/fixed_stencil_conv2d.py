"""Convolution of every channel with the same few constant kernels, NHWC: fxnn's fixed stencils.

A kernel that is an outer product is applied as sums down its columns, then one along its row. Kernels with equal
columns share those sums, and neighbouring pixels do: the five stencils of fxnn (blur, two derivatives, diagonal
difference, identity) take 12 additions for each pixel where 26 taps are not zero.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import tvm
from tvm import te, tirx

from .conv2d import Conv2dParams, ConvProblem, conv2d_reference
from .depthwise_conv2d import kernel_major
from .machine import Machine
from .operators import Sample, operator_attrs, register_knobs, register_operator, te_function
from .schedules.cpu.window import WindowKnobs, WindowLoops
from .schedules.cuda.chain_knobs import GpuChainKnobs
from .schedules.cuda.window import GpuWindowKnobs
from .window import extents, padded_window

MAX_TERMS = 64
"""Additions for a pixel up to which they are written out; more would take minutes to compile, and spill."""


@dataclass(frozen=True, kw_only=True)
class StencilProblem(ConvProblem):
    """Every channel by ``kernels``: (m, kh, kw) as nested tuples, since they are compiled in."""

    kernels: tuple[tuple[tuple[float, ...], ...], ...]

    @property
    def array(self) -> np.ndarray:
        """The kernels, float32."""
        return np.array(self.kernels, np.float32)

    @property
    def window_loops(self) -> WindowLoops:
        """As the window template sees it."""
        height, width = self.output_size
        return WindowLoops(
            batch=self.batch,
            height=height,
            width=width,
            channels=self.conv.out_channels,
            run=self.channels,
            kernel=self.conv.kernel,
            stride=self.conv.stride,
            dilation=self.conv.dilation,
            inputs=self.height * self.width * self.channels,
            additions=_terms(self.kernels) / len(self.kernels),
        )


@cache
def _terms(kernels: tuple[tuple[tuple[float, ...], ...], ...]) -> int:
    return stencil_terms(np.array(kernels, np.float32))


def stencil_terms(kernels: np.ndarray) -> int:
    """Additions for a pixel of one channel: taps of the kernels (m, kh, kw), or of their columns and rows."""
    total, columns = 0, set()
    for kernel in kernels:
        part = outer_product(kernel)
        total += int(np.count_nonzero(kernel if part is None else part[1]))
        if part is not None and tuple(part[0]) not in columns:
            columns.add(tuple(part[0]))
            total += int(np.count_nonzero(part[0]))
    return total


def fixed_stencil_conv2d_reference(data: np.ndarray, kernels: np.ndarray, params: Conv2dParams) -> np.ndarray:
    """``data`` (n, h, w, c), ``kernels`` (m, kh, kw): result (n, oh, ow, m · c), channel ``s · c + i`` by kernel s."""
    channels = data.shape[3]
    weight = np.broadcast_to(kernels, (channels, *kernels.shape)).reshape(-1, 1, *kernels.shape[1:])
    interleaved = conv2d_reference(data, weight, params)
    return kernel_major(interleaved, channels, axis=3)


def fixed_stencils(
    data: te.Tensor,
    kernels: np.ndarray,
    params: Conv2dParams,
    tile: WindowKnobs | GpuWindowKnobs | GpuChainKnobs,
    attrs: dict[str, str],
) -> te.Tensor:
    """Apply ``kernels`` to every channel.

    Parameters
    ----------
    data : Tensor, (n, h, w, c), float32
    kernels : ndarray, (m, kh, kw)
        Compiled in.
    params : Conv2dParams
        With ``groups`` = c and ``out_channels`` = m · c.

    Returns
    -------
    Tensor, (n, oh, ow, m · c), in a chain on a GPU (n, oh, ow, m, c)
        Channel ``s · c + i`` is kernel s over channel i: vectors of channels stay vectors.
    """
    n, h, w, c = data.shape
    oh, ow = params.output_size(int(h), int(w))
    rows, cols = tile.round_up(oh, ow)
    window = padded_window(data, params.window_size(rows, cols), params.padding)
    parts = [outer_product(kernel) for kernel in kernels]
    # CUDA has no selection of vectors, but branches that vanish once the loop over stencils is unrolled.
    select = tirx.Select if isinstance(tile, WindowKnobs) else tirx.if_then_else

    def stencil(
        b: tirx.Var, y: tirx.Var, x: tirx.Var, which: tvm.ir.Expr, channel: tvm.ir.Expr
    ) -> tvm.ir.Expr:
        def pixel(row: int, column: int) -> tvm.ir.Expr:
            top, left = y * params.stride[0], x * params.stride[1]
            return window[b, top + row * params.dilation[0], left + column * params.dilation[1], channel]

        def apply(kernel: np.ndarray, part: tuple[np.ndarray, np.ndarray] | None) -> tvm.ir.Expr:
            if part is None:
                return _sum(kernel.reshape(-1), lambda i: pixel(*divmod(i, kernel.shape[1])))
            down, along = part
            return _sum(along, lambda column: _sum(down, lambda row: pixel(row, column)))

        *others, value = [apply(*each) for each in zip(kernels, parts, strict=True)]
        for number, other in reversed(list(enumerate(others))):
            value = select(which == number, other, value)
        return value

    shape = extents(n, oh, ow, params.out_channels)
    if isinstance(tile, WindowKnobs):
        return te.compute(
            shape, lambda b, y, x, o: stencil(b, y, x, o // c, o % c), name="fixed_stencils", attrs=attrs
        )
    sums = te.compute(extents(n, rows, cols, len(kernels), c), stencil, name="fixed_stencils", attrs=attrs)
    if isinstance(tile, GpuChainKnobs):
        return te.compute(extents(n, oh, ow, len(kernels), c), lambda *at: sums[at], name="crop")
    return te.compute(shape, lambda b, y, x, o: sums[b, y, x, o // c, o % c], name="crop")


def outer_product(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """``kernel`` (kh, kw) as (down, along), or ``None`` where it is no outer product.

    ``down`` has whole numbers without a common factor where it can, its first one positive: kernels that are
    multiples of each other along a column have the same.
    """
    columns = kernel[:, np.abs(kernel).sum(axis=0) > 0]
    if not columns.size:
        return np.zeros(len(kernel)), np.zeros(kernel.shape[1])
    down = columns[:, 0].astype(np.float64)
    whole = np.round(down).astype(np.int64)
    first = down[np.flatnonzero(down)[0]]
    down = down / (math.copysign(math.gcd(*whole.tolist()), first) if (whole == down).all() else first)
    along = down @ kernel.astype(np.float64) / (down @ down)
    return (down, along) if np.array_equal(np.outer(down, along), kernel) else None


def _sum(factors: np.ndarray, value: Callable[[int], tvm.ir.Expr]) -> tvm.ir.Expr:
    """``Σ factors[i] · value(i)``: additions for ±1, doublings for ±2, nothing for 0."""
    total: tvm.ir.Expr | None = None
    for i in np.flatnonzero(factors).tolist():
        term, size = value(i), abs(float(factors[i]))
        if size != 1:
            term = term + term if size == 2 else term * tirx.const(size, "float32")
        if total is not None:
            total = total + term if factors[i] > 0 else total - term
        else:
            total = term if factors[i] > 0 else -term
    return tirx.const(0, "float32") if total is None else total


def make_fixed_stencils(
    problem: StencilProblem, knobs: WindowKnobs | GpuWindowKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`fixed_stencils` alone."""
    (data, _), params, kernels = problem.random(rng), problem.conv, problem.array
    attrs = operator_attrs("fixed_stencils", problem, knobs)
    func = te_function(lambda x: fixed_stencils(x, kernels, params, knobs, attrs), [data])
    return Sample(func, (data,), lambda: fixed_stencil_conv2d_reference(data, kernels, params))


register_operator("fixed_stencils", StencilProblem)
register_knobs("llvm", "fixed_stencils", WindowKnobs, make_fixed_stencils)
register_knobs("cuda", "fixed_stencils", GpuWindowKnobs, make_fixed_stencils)
