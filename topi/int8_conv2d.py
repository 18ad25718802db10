"""Convolution of 8-bit levels by 8-bit weights, as dot products of four; exact in int32.

For layers with more levels than bit planes pay for. An activation is ``x = step · q + offset`` with q from 0 to 255, or
to 127 where `Machine.dot_bits` is 7, a weight an integer from −128 to 127; what offset and padding add is a table
(`borders`).
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tvm
from tvm import te, tirx

from .borders import FewLevelParams, class_of, offset_table
from .conv2d import conv2d_reference
from .machine import Machine
from .operators import Sample, operator_attrs, register_knobs, register_operator, te_function
from .problem import Problem
from .schedules.cpu.tile import TileKnobs, TileLoops
from .window import extents, padded_window, steps

if TYPE_CHECKING:
    from typing_extensions import Self

DOT = 4
"""Products that one lane of the instruction adds up."""


@dataclass(frozen=True, kw_only=True)
class FewLevelProblem(Problem):
    """A convolution of a plane of levels."""

    height: int
    width: int
    layer: FewLevelParams

    def tile_loops(self, steps: int, step_bytes: int) -> TileLoops:
        """As the register tile sees it, with so many steps of so many bytes for each tap."""
        conv = self.layer.conv
        (rows, columns), taps = conv.output_size(self.height, self.width), conv.kernel[0] * conv.kernel[1]
        return TileLoops(
            batch=self.batch,
            height=rows,
            width=columns,
            out_channels=conv.out_channels // conv.groups,
            groups=conv.groups,
            reduction=taps * steps,
            strip_row_bytes=step_bytes * conv.stride[0] * conv.window_size(1, columns)[1] * steps,
            weight_bytes=step_bytes * taps * steps * conv.out_channels,
        )


@dataclass(frozen=True, kw_only=True)
class Int8Problem(FewLevelProblem):
    """A convolution of one group on dot products."""

    @property
    def loops(self) -> TileLoops:
        """As the register tile sees it: one step is a dot product."""
        return self.tile_loops(-(-(self.layer.channels // self.layer.conv.groups) // DOT), DOT)


@dataclass(frozen=True, kw_only=True)
class Int8Knobs(TileKnobs):
    """Knobs of the register tile of dot products, which are whole vectors."""

    @classmethod
    def tiles(cls, problem: Int8Problem, machine: Machine) -> "Iterator[Self]":
        """Every tile of whole vectors that fits the registers; fewer outputs than half of one fill none."""
        for tile in super().tiles(problem, dataclasses.replace(machine, half_vector_cost=1.0)):
            if tile.lanes == machine.lanes:
                yield tile

    def cycles(self, problem: Int8Problem, machine: Machine) -> float:
        """Of the whole batch."""
        return machine.dot_product_cost * super().cycles(problem, machine)


def int8_conv2d_reference(levels: np.ndarray, weight: np.ndarray, params: FewLevelParams) -> np.ndarray:
    """Slow, obvious: ``levels`` (n, h, w, c) uint8, ``weight`` (o, c / groups, kh, kw) int8 → (n, oh, ow, o) int32."""
    data = (params.step * levels.astype(np.int64) + params.offset - params.padding_value).astype(np.float32)
    # The convolution pads with zeros: padding_value is taken from every value and its product added again.
    inside = conv2d_reference(data, weight.astype(np.float32), params.conv)
    constant = params.padding_value * weight.astype(np.int64).sum((1, 2, 3))
    return np.rint(inside.astype(np.float64)).astype(np.int32) + constant.astype(np.int32)


def pack_int8(weight: np.ndarray, panel: int) -> np.ndarray:
    """Pack int8 (o, c, kh, kw) into (panels, kh, kw, c / 4 rounded up, panel, 4), padded with zeros."""
    o, c, kh, kw = weight.shape
    padded = np.zeros((-(-o // panel) * panel, -(-c // DOT) * DOT, kh, kw), np.int8)
    padded[:o, :c] = weight
    panels = padded.reshape(-1, panel, padded.shape[1] // DOT, DOT, kh, kw)
    return np.ascontiguousarray(panels.transpose(0, 4, 5, 2, 1, 3))


def int8_conv2d(
    levels: te.Tensor,
    weight: te.Tensor,
    table: te.Tensor,
    params: FewLevelParams,
    tile: TileKnobs,
    attrs: dict[str, str],
) -> te.Tensor:
    """Convolve.

    Parameters
    ----------
    levels : Tensor, (n, h, w, c), uint8
        One group; c is a multiple of 4.
    weight : Tensor, (panels, kh, kw, c / 4, panel, 4), int8
        From `pack_int8` with ``panel = tile.panel``; more than one step of four products.
    table : Tensor, (row classes, column classes, o), int32
        From `borders.offset_table`.

    Returns
    -------
    Tensor, (n, oh, ow, o), int32
    """
    conv = params.conv
    n, h, w, _ = levels.shape
    h, w = int(h), int(w)
    panels, kh, kw, fours, panel, _ = (int(extent) for extent in weight.shape)
    oh, ow = conv.output_size(h, w)
    rows, cols = tile.round_up(oh, ow)
    window = levels
    if not (conv.reads_in_place and (rows, cols) == (oh, ow)):
        window = padded_window(levels, conv.window_size(rows, cols), conv.padding, 0)
    ry, rx, rc, dot = axes = steps(ry=kh, rx=kw, rc=fours, dot=DOT)

    def product(b: tirx.Var, y: tirx.Var, x: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        row, col = y * conv.stride[0] + ry * conv.dilation[0], x * conv.stride[1] + rx * conv.dilation[1]
        value = window[b, row, col, rc * DOT + dot].astype("int32")
        products = value * weight[o // panel, ry, rx, rc, o % panel, dot].astype("int32")
        return te.sum(products, axis=[axis for axis in axes if isinstance(axis, tirx.IterVar)])

    sums = te.compute(extents(n, rows, cols, panels * panel), product, name="int8_conv2d", attrs=attrs)

    def total(b: tirx.Var, y: tirx.Var, x: tirx.Var, o: tirx.Var) -> tvm.ir.Expr:
        of_row, of_column = class_of(params, h, w, y, x)
        return table[of_row, of_column, o] + params.step * sums[b, y, x, o]

    return te.compute(extents(n, oh, ow, conv.out_channels), total, name="total")


def make_int8_conv2d(
    problem: Int8Problem, knobs: Int8Knobs, machine: Machine, rng: np.random.Generator
) -> Sample:
    """`int8_conv2d` alone."""
    params, conv = problem.layer, problem.layer.conv
    levels = rng.integers(
        0, 2**machine.dot_bits, (problem.batch, problem.height, problem.width, params.channels)
    ).astype(np.uint8)
    shape = (conv.out_channels, params.channels // conv.groups, *conv.kernel)
    weight = rng.integers(-128, 128, shape).astype(np.int8)
    table = offset_table(weight.astype(np.int64), params, problem.height, problem.width).astype(np.int32)
    arrays = (levels, pack_int8(weight, knobs.panel), table)
    attrs = operator_attrs("int8_conv2d", problem, knobs)
    func = te_function(int8_conv2d, arrays, params=params, tile=knobs, attrs=attrs)
    return Sample(func, arrays, lambda: int8_conv2d_reference(levels, weight, params))


register_operator("int8_conv2d", Int8Problem)
register_knobs("llvm", "int8_conv2d", Int8Knobs, make_int8_conv2d)
