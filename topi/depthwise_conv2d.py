"""Depthwise 2-D convolution with channel multiplier, NHWC."""

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import te, tirx

from .conv2d import Conv2dParams, ConvProblem, conv2d_reference
from .machine import Machine
from .operators import Sample, activated_sample, operator_attrs, register_knobs, register_operator
from .schedules.cpu.window import WindowKnobs, WindowLoops
from .schedules.cuda.chain_knobs import GpuChainKnobs
from .schedules.cuda.window import GpuWindowKnobs
from .window import extents, padded_window, reduce_axes


@dataclass(frozen=True, kw_only=True)
class DepthwiseProblem(ConvProblem):
    """A convolution of one channel per group."""

    kernel_major: bool = False

    @property
    def window_loops(self) -> WindowLoops:
        """As the window template sees it."""
        (height, width), conv = self.output_size, self.conv
        return WindowLoops(
            batch=self.batch,
            height=height,
            width=width,
            channels=conv.out_channels,
            run=self.channels if self.kernel_major or conv.out_channels == self.channels else 1,
            kernel=conv.kernel,
            stride=conv.stride,
            dilation=conv.dilation,
            inputs=self.height * self.width * self.channels,
        )


def depthwise_conv2d_reference(data: np.ndarray, weight: np.ndarray, params: Conv2dParams) -> np.ndarray:
    """`conv2d_reference` with one input channel per group; ``weight`` is (o, 1, kh, kw)."""
    return conv2d_reference(data, weight, params)


def pack_depthwise_weight(weight: np.ndarray) -> np.ndarray:
    """(o, 1, kh, kw) → (kh, kw, o): a tap's weights for neighbouring channels lie side by side."""
    return np.ascontiguousarray(weight[:, 0].transpose(1, 2, 0))


def kernel_major(array: np.ndarray, channels: int, axis: int) -> np.ndarray:
    """Reorder ``axis``, m kernels for each of ``channels``, from PyTorch's ``i · m + s`` to ``s · channels + i``."""
    lead, rest = array.shape[:axis], array.shape[axis + 1 :]
    by_channel = array.reshape(*lead, channels, -1, *rest)
    return np.ascontiguousarray(by_channel.swapaxes(axis, axis + 1)).reshape(array.shape)


def depthwise_conv2d(
    data: te.Tensor,
    weight: te.Tensor,
    params: Conv2dParams,
    tile: WindowKnobs | GpuWindowKnobs | GpuChainKnobs,
    attrs: dict[str, str],
    kernel_major: bool = False,
) -> te.Tensor:
    """Convolve every channel with its own kernels.

    Parameters
    ----------
    data : Tensor, (n, h, w, c), float32
    weight : Tensor, (kh, kw, c · multiplier)
        From `pack_depthwise_weight`; output channel o reads input channel o // multiplier.
    params : Conv2dParams
        With ``groups`` = c.
    kernel_major : bool
        Output channel o reads input channel o % c instead: neighbouring outputs read neighbouring inputs.

    Returns
    -------
    Tensor, (n, oh, ow, c · multiplier), in a chain on a GPU (n, oh, ow, multiplier, c) where they are kernel major
    """
    n, h, w, c = data.shape
    oh, ow = params.output_size(int(h), int(w))
    multiplier = params.out_channels // int(c)
    rows, cols = tile.round_up(oh, ow)
    window = padded_window(
        data, params.window_size(rows, cols), params.padding, input_dilation=params.input_dilation
    )
    ry, rx = reduce_axes(ry=params.kernel[0], rx=params.kernel[1])

    def taps(b: tirx.Var, y: tirx.Var, x: tirx.Var, channel: tvm.ir.Expr, o: tvm.ir.Expr) -> tvm.ir.Expr:
        row = y * params.stride[0] + ry * params.dilation[0]
        col = x * params.stride[1] + rx * params.dilation[1]
        return te.sum(window[b, row, col, channel] * weight[ry, rx, o], axis=[ry, rx])

    def output(b: tirx.Var, y: tirx.Var, x: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        return taps(b, y, x, o % c if kernel_major else o // multiplier, o)

    def output_of(b: tirx.Var, y: tirx.Var, x: tirx.Var, kernel: tirx.Var, i: tirx.Var) -> tvm.ir.Expr:
        return taps(b, y, x, i, kernel * c + i)

    apart = kernel_major and isinstance(tile, GpuChainKnobs)
    depth = (multiplier, c) if apart else (params.out_channels,)
    sums = te.compute(
        extents(n, rows, cols, *depth), output_of if apart else output, name="depthwise_conv2d", attrs=attrs
    )
    return te.compute(extents(n, oh, ow, *depth), lambda *at: sums[at], name="crop")


def make_depthwise_conv2d(
    problem: DepthwiseProblem,
    knobs: WindowKnobs | GpuWindowKnobs,
    _machine: Machine,
    rng: np.random.Generator,
) -> Sample:
    """`depthwise_conv2d` alone."""
    (data, weight), params, channels = problem.random(rng), problem.conv, problem.channels
    packed = pack_depthwise_weight(kernel_major(weight, channels, 0) if problem.kernel_major else weight)
    attrs = operator_attrs("depthwise_conv2d", problem, knobs)
    how = {"params": params, "tile": knobs, "attrs": attrs, "kernel_major": problem.kernel_major}

    def reference() -> np.ndarray:
        result = depthwise_conv2d_reference(data, weight, params)
        return kernel_major(result, channels, 3) if problem.kernel_major else result

    return activated_sample(depthwise_conv2d, (data, packed), reference, params.out_channels, rng, **how)


register_operator("depthwise_conv2d", DepthwiseProblem)
register_knobs("llvm", "depthwise_conv2d", WindowKnobs, make_depthwise_conv2d)
register_knobs("cuda", "depthwise_conv2d", GpuWindowKnobs, make_depthwise_conv2d)
