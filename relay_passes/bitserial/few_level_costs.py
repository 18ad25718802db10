"""How a layer whose operands both have few levels runs fastest, by estimate: on bits, on bytes or in floats."""

import dataclasses

import numpy as np

from tvm_fastconv.topi.cycles import cheapest, on_one_footing
from tvm_fastconv.topi.int8_conv2d import DOT
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.schedules.cpu.bitserial_depthwise import count_cost
from tvm_fastconv.topi.schedules.cpu.tile import feasible_tiles

from ..dense.direct_plan import plan_direct
from .few_level_layers import FewLevelLayer
from .weight_levels import WeightLevels

FLOAT_WINDOW = 3
"""Of a depthwise convolution in floats, beside its taps, where what surrounds it are floats too."""


def fastest(layer: FewLevelLayer, planner: Planner) -> tuple[str, str]:
    """(``bits``, ``int8`` or ``dense``; the reason in words) by estimated cycles."""
    machine = planner.machine
    if layer.is_bitserial_depthwise:
        return _fastest_depthwise(layer, machine)
    costs = {}
    if (obstacle := obstacle_to_bits(layer, machine)) is None:
        costs["bits"] = planner.planned("bitserial_conv2d", layer.bitserial_problem).cycles
    if _runs_on_int8(layer, machine):
        costs["int8"] = planner.planned("int8_conv2d", layer.int8_problem).cycles
    if not costs:
        return "dense", f"dense: {obstacle}"
    costs["dense"] = plan_direct(planner, layer.float_problem, exact=True).cycles
    compared = on_one_footing(costs)
    best = cheapest(compared)
    digits = f"{layer.activation.digits}-bit activations, {_weights_in_words(layer.levels)}"
    if best == "dense":
        slower = min(cost for way, cost in compared.items() if way != best) / compared[best]
        return (
            best,
            f"dense: {digits} would take {slower:.1f} times as long by estimate",
        )
    return best, f"{digits}: {compared['dense'] / compared[best]:.1f} times faster than dense by estimate"


def _fastest_depthwise(layer: FewLevelLayer, machine: Machine) -> tuple[str, str]:
    """The same for one channel per group, from floats to floats.

    In floats, 1×1, 3×3 and 5×5 take 20, 35 and 103 µs on Zen 4 with AVX-512, and 24, 53 and 183 with AVX2 (64 channels,
    56 × 56), where bits take what `count_cost` says.
    """
    taps = layer.weight[0].size
    bits, dense = count_cost(taps, machine), taps + FLOAT_WINDOW
    form = "1-bit activations, 1 weight plane, one channel per group"
    if bits < dense:
        return "bits", f"{form}: {dense / bits:.1f} times faster than in floats by estimate"
    return "dense", f"in floats: {form}, would take {bits / dense:.1f} times as long by estimate"


def _weights_in_words(levels: WeightLevels) -> str:
    if levels.bit_planes != (1, 1):
        return f"{len(levels.bit_planes)} weight plane{'s' * (len(levels.bit_planes) > 1)}"
    zeros = int((levels.signs[0] != levels.signs[1]).sum())
    return f"2 weight planes since {zeros} weight{'s are' if zeros > 1 else ' is'} 0"


def obstacle_to_bits(layer: FewLevelLayer, machine: Machine) -> str | None:
    """Why it cannot run on bits: it has no tile, or its groups fill no vectors (one lane at a time is slow)."""
    groups, loops = layer.conv.groups, layer.bitserial_problem.loops
    wide = groups == 1 or loops.out_channels >= machine.lanes // 2
    if layer.is_bitserial_depthwise or (wide and any(feasible_tiles(loops, machine))):
        return None
    single = dataclasses.replace(loops, pixel_sums=1, vector_sums=1)
    if wide and any(feasible_tiles(single, machine)):
        planes = f"{loops.pixel_sums} bits of input times {loops.vector_sums} weight planes"
        return f"{planes} do not fit the registers"
    return f"groups of {loops.out_channels} output channels do not fill vectors"


def _runs_on_int8(layer: FewLevelLayer, machine: Machine) -> bool:
    """One group, whole fours of channels, more than one of them, and an instruction that has their bits."""
    one_step = layer.weight[0].size <= DOT
    whole = layer.conv.groups == 1 and layer.weight.shape[1] % DOT == 0
    few_bits = layer.activation.digits <= machine.dot_bits and np.abs(layer.integers[0]).max() <= 127
    small = few_bits and layer.conv.out_channels > machine.lanes // 2
    return machine.dot_products and whole and small and not one_step
