"""The 1×1 convolution behind a depthwise one or fixed stencils, where a GPU computes both in one kernel."""

import math

import tvm
from tvm import te, tirx

from .schedules.cuda.chain_knobs import GpuChainKnobs
from .window import extents, reduce_axes, stage


def fused_pointwise(
    data: te.Tensor, weight: te.Tensor, out_channels: int, tile: GpuChainKnobs, attrs: dict[str, str]
) -> te.Tensor:
    """Sum over all channels of each pixel.

    Parameters
    ----------
    data : Tensor, (n, h, w, c) or (n, h, w, kernels, c)
        The second form is that of `split_kernels`.
    weight : Tensor, (panels, 1, 1, kernels · c, panel)
        From `pack_weight` with ``panel = tile.panel``.
    attrs : dict
        Annotations of the anchor block.

    Returns
    -------
    Tensor, (n, h, w, out_channels)
    """
    n, h, w, *depth = data.shape
    rows, cols = tile.round_up(int(h), int(w))
    panels, panel = int(weight.shape[0]), int(weight.shape[4])

    def pixel(b: tirx.Var, y: tirx.Var, x: tirx.Var, *channel: tirx.Var) -> tvm.ir.Expr:
        value = data[(b, y, x, *channel)]
        whole = (rows, cols) == (int(h), int(w))
        return (
            value if whole else tirx.if_then_else(tirx.all(y < h, x < w), value, tirx.const(0.0, "float32"))
        )

    between = te.compute(extents(n, rows, cols, *depth), pixel, name="between", attrs=stage("between"))
    axes = reduce_axes(**dict(zip(("rk", "rc")[-len(depth) :], depth, strict=True)))
    sizes = [int(size) for size in depth]

    def product(b: tirx.Var, y: tirx.Var, x: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        term = sum(axis * math.prod(sizes[place + 1 :]) for place, axis in enumerate(axes))
        return te.sum(between[(b, y, x, *axes)] * weight[o // panel, 0, 0, term, o % panel], axis=axes)

    sums = te.compute(extents(n, rows, cols, panels * panel), product, name="conv2d", attrs=attrs)
    return te.compute(extents(n, h, w, out_channels), lambda *at: sums[at], name="crop")
