"""1×1 convolution on planes (NCHW): every output plane is a weighted sum of the input's, pixel by pixel.

What a dictionary is in front of lookups. A register tile is ``atoms`` output planes of ``vectors · lanes`` pixels; the
last tile of pixels overlaps the one before it, so that neither input nor output is padded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

from .conv2d import Conv2dParams, conv2d_reference
from .knobs import KnobSet
from .machine import Machine
from .operators import Sample, operator_attrs, register_operator
from .problem import Problem
from .window import extents

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class PlanesProblem(Problem):
    """``batch`` times ``channels`` planes of ``height`` × ``width``, added up to ``atoms`` planes."""

    channels: int
    height: int
    width: int
    atoms: int

    @property
    def pixels(self) -> int:
        """Of a plane."""
        return self.height * self.width


@dataclass(frozen=True, kw_only=True)
class PlanesKnobs(KnobSet):
    """A register tile: ``atoms`` planes of ``vectors`` vectors of ``lanes`` pixels."""

    lanes: int
    vectors: int
    atoms: int

    @property
    def pixels(self) -> int:
        """Of a tile."""
        return self.lanes * self.vectors

    @classmethod
    def space(cls, problem: PlanesProblem, machine: Machine) -> Iterator[Self]:
        """Every tile that fits the registers and the plane."""
        lanes, registers = machine.lanes, machine.registers - 1
        for vectors in range(1, registers):
            for atoms in range(1, min(registers // vectors, problem.atoms + 1)):
                if atoms * vectors + vectors + 1 <= registers and lanes * vectors <= problem.pixels:
                    yield cls(lanes=lanes, vectors=vectors, atoms=atoms)

    @classmethod
    def default(cls, problem: PlanesProblem, machine: Machine) -> Self | None:
        """The tile with the least estimated cycles; ``None`` where the plane fills no vector."""
        space = cls.space(problem, machine)
        return min(space, key=lambda knobs: knobs.cycles(problem, machine), default=None)

    def cycles(self, problem: PlanesProblem, machine: Machine) -> float:
        """Of the whole batch."""

        def step(rows: int) -> float:
            sums = max(rows * self.vectors, machine.sums_in_flight)
            return sums + machine.load_cost * (rows + self.vectors)

        whole, rest = divmod(problem.atoms, self.atoms)
        tile = whole * step(self.atoms) + (step(rest) if rest else 0)
        tiles = problem.batch * -(-problem.pixels // self.pixels)
        return machine.cycles(tiles * problem.channels * tile)


def pointwise_planes_reference(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``data`` (n, c, h, w) by ``weight`` (k, c): (n, k, h, w), summed in float64, result float32."""
    params = Conv2dParams(kernel=(1, 1), out_channels=len(weight))
    return conv2d_reference(data.transpose(0, 2, 3, 1), weight[:, :, None, None], params).transpose(
        0, 3, 1, 2
    )


def pack_planes_weight(weight: np.ndarray, tile: PlanesKnobs) -> np.ndarray:
    """(k, c) → (tiles, c, atoms): a tile's weights for one channel lie side by side; padded with zeros."""
    k, c = weight.shape
    padded = np.zeros((-(-k // tile.atoms) * tile.atoms, c), np.float32)
    padded[:k] = weight
    return np.ascontiguousarray(padded.reshape(-1, tile.atoms, c).swapaxes(1, 2))


def pointwise_planes(
    shape: tuple[int | tirx.Var, ...], atoms: int, tile: PlanesKnobs, attrs: dict[str, str]
) -> tirx.PrimFunc:
    """Build the product, scheduled.

    Parameters
    ----------
    shape : (n, c, h, w)
        Only n may be symbolic; h · w is at least ``tile.pixels``.
    atoms : int
        Output planes.
    attrs : dict
        Annotations of the anchor block.

    Returns
    -------
    PrimFunc
        (data, weight, result): ``weight`` from `pack_planes_weight`, ``result`` float32 (n, atoms, h, w).
    """
    batch, (channels, height, width) = shape[0], (int(n) for n in shape[1:])
    pixels, whole, rest = height * width, *divmod(atoms, tile.atoms)
    tiles = -(-pixels // tile.pixels)
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        data = build.arg("data", build.buffer(extents(*shape), "float32"))
        packed = extents(whole + (rest > 0), channels, tile.atoms)
        weight = build.arg("weight", build.buffer(packed, "float32"))
        result = build.arg("result", build.buffer(extents(batch, atoms, height, width), "float32"))
        with build.sblock("root"):
            source = build.decl_buffer(extents(batch, channels, pixels), "float32", data=data.data)
            target = build.decl_buffer(extents(batch, atoms, pixels), "float32", data=result.data)
            with build.parallel(*extents(0, batch * tiles)) as task:
                n, column = tirx.floordiv(task, tiles), tirx.floormod(task, tiles)
                start = build.bind(tirx.min(column * tile.pixels, pixels - tile.pixels))
                with build.sblock("pointwise_planes"):
                    build.sblock_attr(attrs)
                    if whole:
                        with build.serial(*extents(0, whole)) as row:
                            _add_up(source, weight, target, (n, row, start), tile, tile.atoms)
                    if rest:
                        last = tirx.IntImm("int64", whole)
                        _add_up(source, weight, target, (n, last, start), tile, rest)
    return builder.get()


def _add_up(
    source: tirx.Buffer,
    weight: tirx.Buffer,
    target: tirx.Buffer,
    at: tuple,
    tile: PlanesKnobs,
    rows: int,
) -> None:
    n, row, start = at
    held = build.sblock_alloc_buffer(extents(rows * tile.pixels), "float32", scope="local")
    places = [(r, first) for r in range(rows) for first in range(0, tile.pixels, tile.lanes)]

    def register(r: int, first: int) -> list[tirx.Ramp]:
        return [tirx.Ramp(tirx.IntImm("int64", r * tile.pixels + first), 1, tile.lanes)]

    for place in places:
        build.buffer_store(held, tirx.Broadcast(tirx.const(0, "float32"), tile.lanes), register(*place))
    with build.serial(*extents(0, source.shape[1])) as c:
        values = {
            first: build.bind(tirx.BufferLoad(source, [n, c, tirx.Ramp(start + first, 1, tile.lanes)]))
            for first in range(0, tile.pixels, tile.lanes)
        }
        for r, first in places:
            factor = tirx.Broadcast(weight[row, c, r], tile.lanes)
            before = tirx.BufferLoad(held, register(r, first))
            build.buffer_store(held, before + factor * values[first], register(r, first))
    for r, first in places:
        pixels = tirx.Ramp(start + first, 1, tile.lanes)
        build.buffer_store(
            target, tirx.BufferLoad(held, register(r, first)), [n, row * tile.atoms + r, pixels]
        )


def make_pointwise_planes(
    problem: PlanesProblem, knobs: PlanesKnobs, _machine: Machine, rng: np.random.Generator
) -> Sample:
    """`pointwise_planes` alone."""
    data = rng.standard_normal((problem.batch, problem.channels, problem.height, problem.width), np.float32)
    weight = rng.standard_normal((problem.atoms, problem.channels), np.float32)
    attrs = operator_attrs("pointwise_planes", problem, knobs)
    func = pointwise_planes(data.shape, problem.atoms, knobs, attrs)
    return Sample(
        func, (data, pack_planes_weight(weight, knobs)), lambda: pointwise_planes_reference(data, weight)
    )


register_operator("pointwise_planes", PlanesProblem, PlanesKnobs, make_pointwise_planes)
