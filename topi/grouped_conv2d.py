"""Grouped 2-D convolution, NHWC, where a vector of output channels spans several groups.

Lane for lane, the vector of outputs is the same sum as in `conv2d`: weights times inputs. Only the inputs are no
broadcast of one value: every group's lanes read their own. They come from one vector load and a permutation where the
groups repeat from vector to vector (widths of 1, 2, 4, 8), else from one broadcast for each group that the vector
touches, blended. No weight is stored twice, and no zeros between groups are multiplied.
"""

import dataclasses
import json
from dataclasses import dataclass

import tvm
from tvm import te, tirx

from .conv2d import Conv2dParams, ConvProblem, packed_conv_maker
from .operators import register_knobs, register_operator
from .schedules.cpu.grouped import WIDTHS, GroupedKnobs, GroupedLoops, groups_of_a_vector, is_permuted
from .schedules.cpu.tile import TileKnobs
from .schedules.cpu.window import WindowLoops
from .schedules.cuda.grouped import GpuGroupedKnobs
from .window import extents, padded_window, steps


@dataclass(frozen=True, kw_only=True)
class GroupedProblem(ConvProblem):
    """A convolution of several groups."""

    @property
    def grouped_loops(self) -> GroupedLoops:
        """As the register tile over all groups sees it."""
        conv = self.conv
        return GroupedLoops(
            tile=dataclasses.replace(self.loops, groups=1, out_channels=conv.out_channels),
            inputs=self.channels // conv.groups,
            outputs=conv.out_channels // conv.groups,
            kernel=conv.kernel[1],
            stride=conv.stride[1],
            dilation=conv.dilation[1],
        )

    @property
    def window_loops(self) -> WindowLoops:
        """As the window template of a GPU sees it: of the outputs of a group, all read the same inputs."""
        (height, width), conv = self.output_size, self.conv
        return WindowLoops(
            batch=self.batch,
            height=height,
            width=width,
            channels=conv.out_channels,
            run=conv.out_channels // conv.groups,
            kernel=conv.kernel,
            stride=conv.stride,
            dilation=conv.dilation,
            inputs=self.height * self.width * self.channels,
        )


def grouped_conv2d(
    data: te.Tensor,
    weight: te.Tensor,
    params: Conv2dParams,
    tile: TileKnobs | GpuGroupedKnobs,
    attrs: dict[str, str],
) -> te.Tensor:
    """Convolve ``data`` with packed ``weight``; slow and obvious, this is `conv2d_reference`.

    Parameters
    ----------
    data : Tensor, (n, h, w, c) or, for ``data_layout`` "NCHW", (n, c, h, w), float32
        ``n`` may be symbolic.
    weight : Tensor, (panels, kh, kw, c / groups, panel)
        From `pack_weight` with ``panel = tile.panel``; a panel may begin and end inside a group. At least two
        products are added up for an output: with one, it is `depthwise_conv2d`.
    attrs : dict
        Annotations of the anchor block.

    Returns
    -------
    Tensor, (n, oh, ow, out_channels)
    """
    n, h, w = (data.shape[params.data_layout.index(axis)] for axis in "NHW")
    oh, ow = params.output_size(int(h), int(w))
    panels, kh, kw, inputs, panel = (int(extent) for extent in weight.shape)
    outputs = params.out_channels // params.groups
    rows, cols = tile.round_up(oh, ow)
    # Always a copy: a permuted vector is loaded from beyond the last channel, where the schedule leaves room.
    size = params.window_size(rows, cols)
    window = padded_window(data, size, params.padding, 0.0, params.input_dilation, params.data_layout)
    ry, rx, rc = steps(ry=kh, rx=kw, rc=inputs)
    axes = [axis for axis in (ry, rx, rc) if isinstance(axis, tirx.IterVar)]

    def taps(b: tirx.Var, y: tirx.Var, x: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        row = y * params.stride[0] + ry * params.dilation[0]
        col = x * params.stride[1] + rx * params.dilation[1]

        def of_group(group: tvm.ir.Expr) -> tvm.ir.Expr:
            return window[b, row, col, group * inputs + rc]

        if isinstance(tile, GpuGroupedKnobs) or is_permuted(inputs, outputs, tile.lanes):
            value = of_group(o // outputs)
        else:
            first = o // tile.lanes * tile.lanes // outputs
            value = of_group(tirx.min(first, params.groups - 1))
            for further in range(1, groups_of_a_vector(outputs, tile.lanes, panels * panel)):
                group = first + further
                own = of_group(tirx.min(group, params.groups - 1))
                value = tirx.Select(o >= group * outputs, own, value)
        return te.sum(value * weight[o // panel, ry, rx, rc, o % panel], axis=axes)

    widths = {WIDTHS: json.dumps([inputs, outputs])}
    sums = te.compute(
        extents(n, rows, cols, panels * panel), taps, name="grouped_conv2d", attrs=attrs | widths
    )
    return te.compute(
        extents(n, oh, ow, params.out_channels), lambda b, y, x, o: sums[b, y, x, o], name="crop"
    )


register_operator("grouped_conv2d", GroupedProblem)
register_knobs("llvm", "grouped_conv2d", GroupedKnobs, packed_conv_maker("grouped_conv2d", grouped_conv2d))
register_knobs("cuda", "grouped_conv2d", GpuGroupedKnobs, packed_conv_maker("grouped_conv2d", grouped_conv2d))
