"""What a chain of convolutions costs by estimate: one operator after the other, fused, or as one dense convolution."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.fixed_stencil_conv2d import MAX_TERMS, stencil_terms
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs, TileProblem, cycles, feasible_knobs
from tvm_fastconv.topi.schedules.cpu.window import WindowKnobs, default_window_knobs

from ..dense.dense_costs import dense_cycles
from ..graph.rewrite import static_shape
from .separable_chains import Chain, Stage

TAP_CYCLES, WINDOW_CYCLES = 1.05, 5.0
"""Of a depthwise convolution, for each vector of outputs: every tap, and what else there is (Zen 4: 37 GMAC/s for 3×3,
22 for 3×1)."""

GATHER = 10.0
"""How many times slower a depthwise convolution with a channel multiplier is: it reads its input lane by lane."""

STENCIL_CYCLES = 4.0
"""Of fixed stencils, for each vector of outputs beside their additions."""

MAX_GROWTH = 6.0
"""How many times more weights a dense convolution may have than the chain; Winograd's algorithm saves no more."""

NEAR_CYCLES, FAR_CYCLES = 1 / 24, 1 / 7
"""To write and read again a byte between two operators: in L2, and beyond."""

CALL_CYCLES = 4000
"""A function of its own: a microsecond."""

MIN_TASKS = 4
"""Strips of a fused chain, for the threads to share."""


@dataclass(frozen=True)
class FusedPlan:
    """How a chain runs as one function: output rows of a strip, knobs of every stage, and estimated cycles."""

    rows: int
    knobs: tuple[TileKnobs | WindowKnobs, ...]
    cycles: float


def unfused_cycles(chain: Chain, machine: Machine) -> float:
    """All stages as operators of their own, and the way of what is between them through memory."""
    total = sum(_alone(stage, machine) for stage in chain.stages)
    for stage in chain.stages[:-1]:
        height, width, channels = stage.plane
        size = 4 * height * width * channels
        total += CALL_CYCLES + stage.batch * size * (
            NEAR_CYCLES if 2 * size <= machine.l2_bytes else FAR_CYCLES
        )
    return total


def reconstructed_cycles(chain: Chain, weight: np.ndarray, params: Conv2dParams, machine: Machine) -> float:
    """The dense convolution with ``weight`` (o, c, kh, kw) in place of all."""
    return dense_cycles(_problem(chain.last, params, weight), params, weight, machine)


def fused_plan(chain: Chain, machine: Machine) -> FusedPlan | None:
    """The strip and tiles with the least estimated cycles; ``None`` where no strip's inner values stay in L2."""
    # The bounds of a strip within a symbolic batch, and of rows with gaps between them, are beyond TVM's analysis.
    known = static_shape(chain.last.call) is not None and not any(map(_leaves_gaps, chain.stages[1:]))
    if not known or not _has_templates(chain):
        return None
    height = chain.last.plane[0]
    strips = [
        rows
        for rows in range(1, height + 1)
        if height % rows == 0 and chain.last.batch * height >= MIN_TASKS * rows
    ]
    plans = [_plan(chain, rows, machine) for rows in strips]
    return min((plan for plan in plans if plan is not None), key=lambda plan: plan.cycles, default=None)


def may_multiply_out(chain: Chain) -> bool:
    """Whether the dense convolution can be the fastest at all: the larger ones take time and memory to make."""
    kernels = [math.prod(stage.params.kernel) for stage in chain.stages]
    dense = chain.last.params.out_channels * chain.stages[0].channels * math.prod(kernels)
    return dense <= MAX_GROWTH * sum(stage.weight.size for stage in chain.stages)


def written_out(stage: Stage) -> np.ndarray | None:
    """The kernels of a stage that runs as `fixed_stencils`."""
    kernels = stage.shared_kernels
    return None if kernels is None or stencil_terms(kernels) > MAX_TERMS else kernels


def _has_templates(chain: Chain) -> bool:
    """Whether every stage has one.

    Kernels of a channel are put into another order: only a bias may follow them, and is folded into the next stage.
    """
    if chain.multiplies:
        first, last = chain.stages
        return first.linear and (first.bias is None or not any(last.params.padding))
    return all(
        stage.params.groups == 1 or (stage.depthwise and not _gathers(stage)) for stage in chain.stages
    )


def _leaves_gaps(stage: Stage) -> bool:
    """Whether neighbouring windows do not touch."""
    params = stage.params
    return any(params.stride[i] > (params.kernel[i] - 1) * params.dilation[i] + 1 for i in (0, 1))


def _gathers(stage: Stage) -> bool:
    """Whether neighbouring outputs read the same channel, which no vector load does."""
    return stage.params.out_channels != stage.channels


def _plan(chain: Chain, rows: int, machine: Machine) -> FusedPlan | None:
    total, strip_bytes, needed = 0.0, 0, rows
    knobs: list[TileKnobs | WindowKnobs] = []
    for stage in reversed(chain.stages):
        _, width, channels = stage.plane
        strips = chain.last.plane[0] // rows
        tile, row_cycles = _tile(stage, needed if stage is chain.last else 1, machine)
        knobs.append(tile)
        total += stage.batch * strips * needed * row_cycles
        if stage is not chain.last:
            size = 4 * needed * width * channels
            strip_bytes += size
            total += stage.batch * strips * size * NEAR_CYCLES
        params = stage.params
        below = (needed - 1) * params.stride[0] + (params.kernel[0] - 1) * params.dilation[0] + 1
        needed = min(below, stage.height)
    if 2 * strip_bytes > machine.l2_bytes:
        return None
    weight_bytes = sum(stage.weight.nbytes for stage in chain.stages)
    if strip_bytes + weight_bytes > machine.l2_bytes:  # every strip reads them from further away
        total += chain.last.batch * chain.last.plane[0] // rows * weight_bytes * FAR_CYCLES / 2
    return FusedPlan(rows, tuple(reversed(knobs)), total)


def _tile(stage: Stage, strip: int, machine: Machine) -> tuple[TileKnobs | WindowKnobs, float]:
    """Knobs of one stage in tiles of one row, and the cycles of a row."""
    height, width, channels = stage.plane
    if stage.depthwise:
        knobs = dataclasses.replace(default_window_knobs(1, strip, width, channels, machine), rows=strip)
        if (kernels := written_out(stage)) is not None:
            each = STENCIL_CYCLES + stencil_terms(kernels) / len(kernels)
            return knobs, each * width * -(-channels // machine.lanes)
        gather = GATHER if _gathers(stage) and stage.channels % machine.lanes == 0 else 1
        return knobs, _window_cycles(stage, machine) / gather / height
    problem = dataclasses.replace(_problem(stage, stage.params, stage.weight), batch=1, height=1)
    tiles = [
        dataclasses.replace(tile, strip=strip, chunks=1)
        for tile in feasible_knobs(problem, machine)
        if width % tile.tile_w == 0
    ]
    best = min(tiles, key=lambda tile: (cycles(problem, tile, machine), tile.to_json()))
    return best, cycles(problem, best, machine)


def _alone(stage: Stage, machine: Machine) -> float:
    if stage.depthwise:
        return stage.batch * _window_cycles(stage, machine)
    problem = _problem(stage, stage.params, stage.weight)
    return dense_cycles(problem, stage.params, stage.weight, machine)


def _window_cycles(stage: Stage, machine: Machine) -> float:
    height, width, channels = stage.plane
    taps = stage.params.kernel[0] * stage.params.kernel[1]
    vectors = height * width * -(-channels // machine.lanes)
    return vectors * (TAP_CYCLES * taps + WINDOW_CYCLES) * (GATHER if _gathers(stage) else 1)


def _problem(stage: Stage, params: Conv2dParams, weight: np.ndarray) -> TileProblem:
    """For a dense convolution that gives the result of ``stage``."""
    rows, columns, outputs = stage.plane
    channels = weight.shape[1] * params.groups
    return TileProblem(
        batch=stage.batch,
        height=rows,
        width=columns,
        out_channels=outputs // params.groups,
        groups=params.groups,
        reduction=weight[0].size,
        strip_row_bytes=4 * params.stride[0] * params.window_size(1, columns)[1] * channels,
        weight_bytes=weight.nbytes,
    )
