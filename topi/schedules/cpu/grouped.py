"""Schedule of `grouped_conv2d`: the register tile, with the kernel's columns inside it.

A vector of inputs takes a permutation or some blends to make, so the taps of one kernel row stand unrolled around the
tile: neighbouring outputs read the same inputs, and the compiler makes each once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from tvm import tirx
from tvm.s_tir import Schedule, TensorIntrin
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.script import tirx as T

from ...machine import Machine
from ..loops import vectorize_innermost
from ..registry import Site, register
from .conv2d import Sums, tile_template
from .tile import MAX_WORK, LoopsOnly, TileKnobs, TileLoops

if TYPE_CHECKING:
    from typing_extensions import Self

WIDTHS = "fastconv.widths"
"""Annotation of the anchor: input and output channels of a group."""

HELD_TAPS = 3
"""Weights of a kernel row that are held beside the sums; those of wider kernels are read as they are needed."""


@dataclass(frozen=True, kw_only=True)
class GroupedLoops:
    """A grouped convolution as its cost model sees it.

    ``tile`` describes all groups as one of all output channels; ``inputs`` and ``outputs`` are the channels of one
    group. Kernel, stride and dilation count columns.
    """

    tile: TileLoops
    inputs: int
    outputs: int
    kernel: int
    stride: int
    dilation: int


class Grouped(Protocol):
    """A problem of `grouped_conv2d`."""

    @property
    def grouped_loops(self) -> GroupedLoops:
        """As its cost model sees it."""


def is_permuted(inputs: int, outputs: int, lanes: int) -> bool:
    """Whether every vector of outputs reads its groups from one vector of inputs, all in the same pattern."""
    return outputs < lanes and lanes % outputs == 0 and (lanes // outputs - 1) * inputs < lanes


def groups_of_a_vector(outputs: int, lanes: int, channels: int) -> int:
    """The most groups that one of the vectors of ``channels`` outputs touches."""
    return max((at + lanes - 1) // outputs - at // outputs + 1 for at in range(0, channels, lanes))


@dataclass(frozen=True, kw_only=True)
class GroupedKnobs(TileKnobs):
    """Knobs of the register tile whose vectors span groups."""

    @classmethod
    def tiles(cls, problem: Grouped, machine: Machine) -> Iterator[Self]:
        """Tiles whose sums leave registers for the weights of a kernel row and the inputs; of any lanes."""
        grouped = problem.grouped_loops
        taps = min(grouped.kernel, HELD_TAPS)
        for knobs in super().tiles(LoopsOnly(grouped.tile), machine):
            sums = knobs.tile_h * knobs.tile_w * knobs.vectors
            fits = sums + taps * knobs.vectors + 2 <= machine.registers
            if fits and knobs.work(grouped.tile) <= MAX_WORK:
                yield knobs

    @classmethod
    def space(cls, problem: Grouped, machine: Machine) -> Iterator[Self]:
        """Of those tiles, every division of the rows and panels."""
        for tile in cls.tiles(problem, machine):
            yield from tile.divisions(problem.grouped_loops.tile)

    def cycles(self, problem: Grouped, machine: Machine) -> float:
        """Of the whole batch."""
        grouped = problem.grouped_loops
        return grouped.tile.batch * machine.cycles(self.grouped_cost(grouped, machine))

    def grouped_cost(self, grouped: GroupedLoops, machine: Machine) -> float:
        """Of one batch item, in multiply-adds of whole vectors."""
        tile, vector = grouped.tile, machine.vector_cost(self.lanes)
        pixels, reach = self.tile_h * self.tile_w, (grouped.kernel - 1) * grouped.dilation + 1
        columns = min(self.tile_w * grouped.kernel, (self.tile_w - 1) * grouped.stride + reach)
        sums = grouped.kernel * max(pixels * self.vectors, machine.sums_in_flight)
        inputs = self.tile_h * columns * self._input_cost(grouped, machine)
        step = vector * (sums + inputs) + machine.weight_load_cost * grouped.kernel * self.vectors
        tiles = -(-tile.height // self.tile_h) * -(-tile.width // self.tile_w)
        panels = -(-tile.out_channels // self.panel)
        epilogue = machine.store_cost * vector * pixels * self.vectors
        return tiles * panels * (step * tile.reduction / grouped.kernel + epilogue)

    def _input_cost(self, grouped: GroupedLoops, machine: Machine) -> float:
        """To make what all vectors of a tile read for one pixel and one channel of a group."""
        if is_permuted(grouped.inputs, grouped.outputs, self.lanes):
            return machine.permute_cost * self.vectors
        groups = groups_of_a_vector(grouped.outputs, self.lanes, grouped.tile.out_channels)
        if groups == 1:
            return machine.broadcast_cost * (1 if grouped.outputs % self.panel == 0 else self.vectors)
        return machine.permute_cost * groups * self.vectors


def schedule_grouped_sums(site: Site, knobs: TileKnobs) -> list[LoopRV]:
    """Order the sums of the anchor, which stand at their place, around a kernel row; see `schedule_sums`."""
    sch, anchor = site.sch, site.anchor
    names = [var.var.name.removeprefix("v_") for var in sch.get(anchor).iter_vars]
    loops = dict(zip(names, sch.get_loops(anchor)[-len(names) :], strict=True))
    vector, lane = sch.split(loops["o"], [None, knobs.lanes])
    reductions = [loops[name] for name in ("ry", "rc", "rx") if name in loops]
    tile = [loops["y"], loops["x"], vector]
    sch.reorder(loops["b"], *reductions, *tile, lane)
    for loop in [*tile, *([loops["rx"]] if "rx" in loops else [])]:
        sch.unroll(loop)
    if not is_permuted(*_widths(sch, anchor), knobs.lanes):
        sch.vectorize(lane)
    return reductions


def finish_grouped_sums(site: Site, init: SBlockRV, knobs: TileKnobs) -> None:
    """Make the innermost loop of the anchor a permuted vector, where it is one."""
    sch, anchor = site.sch, site.anchor
    inputs, outputs = _widths(sch, anchor)
    if is_permuted(inputs, outputs, knobs.lanes):
        sch.vectorize(sch.get_loops(init)[-1])
        sch.tensorize(sch.get_loops(anchor)[-1], _permuted_products(inputs, outputs, knobs.lanes))


def vectorize_grouped_window(sch: Schedule, anchor: SBlockRV, window: SBlockRV, knobs: TileKnobs) -> None:
    """Copy the channels of a pixel in whole vectors and one rest, apart for what permuted vectors load behind them."""
    (inputs, outputs), lanes = _widths(sch, anchor), knobs.lanes
    if is_permuted(inputs, outputs, lanes):
        sums = int(sch.get(anchor).iter_vars[3].dom.extent) // knobs.chunks
        end = (sums - lanes) // outputs * inputs + inputs - 1 + lanes
        sch.storage_align(window, 0, 2, -(-end // lanes) * lanes, 0)
    if not isinstance(sch.get(anchor).iter_vars[0].dom.extent, tirx.IntImm):
        # As in the window template, splitting loops fails beside a symbolic batch.
        vectorize_innermost(sch, window, lanes)
        return
    vector, lane = sch.split(sch.get_loops(window)[-1], [None, lanes])
    sch.vectorize(lane)
    sch.annotate(vector, "pragma_loop_partition_hint", 1)


def _widths(sch: Schedule, anchor: SBlockRV) -> tuple[int, int]:
    inputs, outputs = json.loads(str(sch.get(anchor).annotations[WIDTHS]))
    return inputs, outputs


@cache
def _permuted_products(inputs: int, outputs: int, lanes: int) -> str:
    """Register the products of one vector, whose groups of lanes read their own inputs; returns its name.

    The vector that is loaded goes on beyond the last input that is read, which memory must hold.
    """
    name, wide = f"fastconv_permuted_products_{inputs}_{outputs}_{lanes}", T.int64(lanes)
    sources = [lane // outputs * inputs for lane in range(lanes)]
    span, group, step = T.int64(sources[-1] + 1), T.int64(outputs), T.int64(inputs)

    @T.prim_func(s_tir=True)
    def description(a: T.handle, w: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (span,), "float32", offset_factor=1)
        weight = T.match_buffer(w, (wide,), "float32", offset_factor=1)
        sums = T.match_buffer(c, (wide,), "float32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(sums[T.int64(0) : wide], data[T.int64(0) : span], weight[T.int64(0) : wide])
            T.writes(sums[T.int64(0) : wide])
            for j in range(wide):
                with T.sblock("lane"):
                    vj = T.axis.spatial(wide, j)
                    sums[vj] = sums[vj] + data[vj // group * step] * weight[vj]

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, w: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (span,), "float32", offset_factor=1)
        weight = T.match_buffer(w, (wide,), "float32", offset_factor=1)
        sums = T.match_buffer(c, (wide,), "float32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(sums[T.int64(0) : wide], data[T.int64(0) : span], weight[T.int64(0) : wide])
            T.writes(sums[T.int64(0) : wide])
            sums[T.ramp(T.int64(0), 1, lanes)] = (
                sums[T.ramp(T.int64(0), 1, lanes)]
                + T.Shuffle([data[T.ramp(T.int64(0), 1, lanes)]], sources)
                * weight[T.ramp(T.int64(0), 1, lanes)]
            )

    TensorIntrin.register(name, description, implementation)
    return name


register(
    "llvm",
    ["grouped_conv2d"],
    tile_template(Sums(schedule_grouped_sums, finish_grouped_sums, vectorize_grouped_window)),
)
