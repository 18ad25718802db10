"""How a layer whose operands both have few levels runs fastest, by estimate: on bits, on bytes or in floats."""

import dataclasses

import numpy as np

from tvm_fastconv.topi.int8_conv2d import DOT
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs, TileProblem, cycles, default_knobs, feasible_knobs

from .few_level_layers import FewLevelLayer
from .weight_levels import WeightLevels


def fastest(layer: FewLevelLayer, machine: Machine) -> tuple[str, str]:
    """(``bits``, ``int8`` or ``dense``; the reason in words) by estimated cycles."""

    def estimate(problem: TileProblem) -> float:
        return cycles(problem, default_knobs(problem, machine), machine)

    if layer.is_bit_depthwise:
        return _fastest_depthwise(layer, machine)
    costs = {}
    if (obstacle := obstacle_to_bits(layer, machine)) is None:
        costs["bits"] = machine.popcount_cost * estimate(layer.bit_problem())
    if _runs_on_int8(layer, machine):
        costs["int8"] = cycles(layer.int8_problem(), int8_tile(layer, machine), machine)
    if not costs:
        return "dense", f"dense: {obstacle}"
    costs["dense"] = estimate(layer.float_problem())
    best = min(costs, key=lambda way: costs[way])
    digits = f"{layer.activation.digits}-bit activations, {_weights_in_words(layer.levels)}"
    if best == "dense":
        slower = min(cost for way, cost in costs.items() if way != best) / costs[best]
        return (
            best,
            f"dense: {digits} would take {slower:.1f} times as long by estimate",
        )
    return best, f"{digits}: {costs['dense'] / costs[best]:.1f} times faster than dense by estimate"


def _fastest_depthwise(layer: FewLevelLayer, machine: Machine) -> tuple[str, str]:
    """The same for one channel per group, from floats to floats, in multiply-adds of vectors.

    Fitted to 1×1, 3×3 and 5×5 on Zen 4: 12, 26 and 36 µs against 20, 35 and 103 with AVX-512, and 17, 92 and 113
    against 24, 53 and 183 with AVX2 (64 channels, 56 × 56), where a digit of 8 channels becomes numbers without masks.
    """
    taps = layer.weight[0].size
    bits = 2 + (1.3 if machine.lanes == 16 else 2.75) * taps.bit_length()
    dense, form = taps + 3, "1-bit activations, 1 weight plane, one channel per group"
    if bits < dense:
        return "bits", f"{form}: {dense / bits:.1f} times faster than in floats by estimate"
    return "dense", f"in floats: {form}, would take {bits / dense:.1f} times as long by estimate"


def _weights_in_words(levels: WeightLevels) -> str:
    if levels.planes != (1, 1):
        return f"{len(levels.planes)} weight plane{'s' * (len(levels.planes) > 1)}"
    zeros = int((levels.signs[0] != levels.signs[1]).sum())
    return f"2 weight planes since {zeros} weight{'s are' if zeros > 1 else ' is'} 0"


def obstacle_to_bits(layer: FewLevelLayer, machine: Machine) -> str | None:
    """Why it cannot run on bits: it has no tile, or its groups fill no vectors (one lane at a time is slow)."""
    groups, problem = layer.conv.groups, layer.bit_problem()
    wide = groups == 1 or problem.out_channels >= machine.lanes // 2
    if layer.is_bit_depthwise or (wide and any(feasible_knobs(problem, machine))):
        return None
    single = dataclasses.replace(problem, pixel_planes=1, vector_planes=1)
    if wide and any(feasible_knobs(single, machine)):
        planes = f"{problem.pixel_planes} bits of input times {problem.vector_planes} weight planes"
        return f"{planes} do not fit the registers"
    return f"groups of {problem.out_channels} output channels do not fill vectors"


def int8_tile(layer: FewLevelLayer, machine: Machine) -> TileKnobs:
    """The register tile of `int8_conv2d`, in whole vectors."""
    return default_knobs(layer.int8_problem(), dataclasses.replace(machine, half_vector_cost=1.0))


def _runs_on_int8(layer: FewLevelLayer, machine: Machine) -> bool:
    """One group, whole fours of channels, more than one of them, and the instruction."""
    one_step = layer.weight[0].size <= DOT
    whole = layer.conv.groups == 1 and layer.weight.shape[1] % DOT == 0
    small = np.abs(layer.integers[0]).max() <= 127 and layer.conv.out_channels > machine.lanes // 2
    return machine.dot_products and whole and small and not one_step
