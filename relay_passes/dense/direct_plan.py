"""Which operator computes a convolution directly, in which tiles.

Of several groups, `conv2d` keeps the vectors of a tile inside one, where their lanes divide its outputs;
`grouped_conv2d` lets them span groups, which always fits. Neither does more than `MAX_WORK` times the multiply-adds of
the layer.
"""

import dataclasses
import math
from dataclasses import dataclass

from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.cpu.grouped import GroupedProblem, feasible_grouped_knobs, grouped_cycles
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs, TileProblem, cycles, default_knobs, feasible_knobs

MAX_WORK = 2.0
"""Multiply-adds that are executed, over those of the groups; the rest fills vectors and tiles up."""


@dataclass(frozen=True)
class DirectPlan:
    """Name of the operator, its knobs, and the estimated cycles of one batch item."""

    op: str
    knobs: TileKnobs
    cycles: float


def plan_direct(problem: TileProblem, params: Conv2dParams, machine: Machine) -> DirectPlan:
    """The operator and tile with the least estimated cycles.

    Parameters
    ----------
    problem : TileProblem
        From `direct_problem`; it counts the outputs of one group.
    """
    if params.groups == 1:
        knobs = default_knobs(problem, machine)
        return DirectPlan("conv2d", knobs, cycles(problem, knobs, machine))
    plans = [*_within_groups(problem, machine), *_across_groups(problem, params, machine)]
    return min(plans, key=lambda plan: (plan.cycles, -plan.knobs.tile_h * plan.knobs.tile_w))


def _within_groups(problem: TileProblem, machine: Machine) -> list[DirectPlan]:
    return [
        DirectPlan("conv2d", knobs, problem.groups * cycles(problem, knobs, machine))
        for knobs in feasible_knobs(problem, machine)
        if work(problem, knobs) <= MAX_WORK
    ]


def _across_groups(problem: TileProblem, params: Conv2dParams, machine: Machine) -> list[DirectPlan]:
    joined = dataclasses.replace(problem, groups=1, out_channels=params.out_channels)
    grouped = GroupedProblem(
        tile=joined,
        inputs=problem.reduction // math.prod(params.kernel),
        outputs=problem.out_channels,
        kernel=params.kernel[1],
        stride=params.stride[1],
        dilation=params.dilation[1],
    )
    return [
        DirectPlan("grouped_conv2d", knobs, grouped_cycles(grouped, knobs, machine))
        for knobs in feasible_grouped_knobs(grouped, machine)
        if work(joined, knobs) <= MAX_WORK
    ]


def work(problem: TileProblem, knobs: TileKnobs) -> float:
    """Multiply-adds that tiles of ``knobs`` execute, over those asked for."""
    rows, columns = knobs.round_up(problem.height, problem.width)
    outputs = -(-problem.out_channels // knobs.panel) * knobs.panel
    return rows * columns * outputs / (problem.height * problem.width * problem.out_channels)
