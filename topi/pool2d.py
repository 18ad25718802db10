"""Max and average pooling over windows, NHWC."""

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import te, tirx

from .conv2d import Conv2dParams
from .machine import Machine
from .operators import Sample, operator_attrs, register_knobs, register_operator, te_function
from .problem import Problem
from .schedules.cpu.window import WindowKnobs, WindowLoops
from .schedules.cuda.window import GpuWindowKnobs
from .window import extents, padded_window, reduce_axes


@dataclass(frozen=True, kw_only=True)
class PoolProblem(Problem):
    """A pooling: ``window`` has its kernel, stride, padding and dilation, and the channels as its outputs."""

    height: int
    width: int
    out_size: tuple[int, int]
    window: Conv2dParams
    kind: str
    count_include_pad: bool = False

    @property
    def window_loops(self) -> WindowLoops:
        """As the window template sees it."""
        height, width = self.out_size
        return WindowLoops(
            batch=self.batch,
            height=height,
            width=width,
            channels=self.window.out_channels,
            run=self.window.out_channels,
            kernel=self.window.kernel,
            stride=self.window.stride,
            dilation=self.window.dilation,
            inputs=self.height * self.width * self.window.out_channels,
        )


def pool2d_reference(
    data: np.ndarray,
    params: Conv2dParams,
    out_size: tuple[int, int],
    kind: str,
    count_include_pad: bool = False,
) -> np.ndarray:
    """Slow, obvious pooling; arguments as for `pool2d`."""
    n, h, w, c = data.shape
    out = np.zeros((n, *out_size, c), data.dtype)
    top, left, bottom, right = params.padding
    for y in range(out_size[0]):
        for x in range(out_size[1]):
            rows = y * params.stride[0] - top + np.arange(params.kernel[0]) * params.dilation[0]
            cols = x * params.stride[1] - left + np.arange(params.kernel[1]) * params.dilation[1]
            inside = np.ix_(rows[(rows >= 0) & (rows < h)], cols[(cols >= 0) & (cols < w)])
            values = data[:, inside[0], inside[1]].reshape(n, -1, c)
            if kind == "max":
                out[:, y, x] = values.max(1)
                continue
            counted = (
                (rows < h + bottom).sum() * (cols < w + right).sum() if count_include_pad else values.shape[1]
            )
            out[:, y, x] = values.astype(np.float64).sum(1) / counted
    return out


def pool2d(
    data: te.Tensor,
    params: Conv2dParams,
    out_size: tuple[int, int],
    kind: str,
    count_include_pad: bool,
    tile: WindowKnobs | GpuWindowKnobs,
    attrs: dict[str, str],
) -> te.Tensor:
    """Reduce every window of every channel.

    Parameters
    ----------
    data : Tensor, (n, h, w, c), float32
    params : Conv2dParams
        Kernel, stride, padding and dilation; the rest is not looked at.
    out_size : height and width of the result: ``ceil_mode`` may make it larger than the padding accounts for.
    kind : ``"max"`` or ``"avg"``
    count_include_pad : whether an average divides by the padded pixels too (those of ``padding``, not of the excess
        that ``ceil_mode`` brings, as in PyTorch).

    Returns
    -------
    Tensor, (n, *out_size, c)
    """
    n, h, w, c = data.shape
    rows, cols = tile.round_up(*out_size)
    fill = float("-inf") if kind == "max" else 0.0
    window = padded_window(data, params.window_size(rows, cols), params.padding, fill)
    ry, rx = reduce_axes(ry=params.kernel[0], rx=params.kernel[1])
    reduce = te.max if kind == "max" else te.sum

    def taps(b: tirx.Var, y: tirx.Var, x: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        row = y * params.stride[0] + ry * params.dilation[0]
        col = x * params.stride[1] + rx * params.dilation[1]
        return reduce(window[b, row, col, o], axis=[ry, rx])

    pooled = te.compute(extents(n, rows, cols, c), taps, name=f"{kind}_pool2d", attrs=attrs)

    def result(b: tirx.Var, y: tirx.Var, x: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        if kind == "max":
            return pooled[b, y, x, o]
        counts = [
            _count(at, axis, int(extent), params, count_include_pad)
            for axis, (at, extent) in enumerate(((y, h), (x, w)))
        ]
        return pooled[b, y, x, o] / tirx.Cast(data.dtype, counts[0] * counts[1])

    return te.compute(extents(n, *out_size, c), result, name="crop")


def _count(
    at: tirx.Var, axis: int, extent: int, params: Conv2dParams, count_include_pad: bool
) -> tvm.ir.Expr:
    """How many taps of one axis an average divides by at output position ``at``."""
    before, after = params.padding[axis], params.padding[axis + 2]
    first, size = at * params.stride[axis] - before, params.kernel[axis]
    if count_include_pad:
        return tirx.min(first + size, extent + after) - first
    return tirx.min(first + size, extent) - tirx.max(first, 0)


def make_pool2d(
    problem: PoolProblem, knobs: WindowKnobs | GpuWindowKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`pool2d` alone."""
    shape = (problem.batch, problem.height, problem.width, problem.window.out_channels)
    data, kind = rng.standard_normal(shape, np.float32), problem.kind
    how = (problem.window, problem.out_size, kind, problem.count_include_pad)
    attrs = operator_attrs(f"{kind}_pool2d", problem, knobs)
    func = te_function(lambda x: pool2d(x, *how, knobs, attrs), [data])
    return Sample(func, (data,), lambda: pool2d_reference(data, *how))


for _kind in ("max", "avg"):
    register_operator(f"{_kind}_pool2d", PoolProblem)
    register_knobs("llvm", f"{_kind}_pool2d", WindowKnobs, make_pool2d)
    register_knobs("cuda", f"{_kind}_pool2d", GpuWindowKnobs, make_pool2d)
