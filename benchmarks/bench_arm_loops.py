"""How near the inner loops on ARM's CPUs are to their floor: ``python -m benchmarks.bench_arm_loops``.

One layer of each kind is compiled and run in an emulator (`arm_blocks`); its inner loop is the block of which most
instructions are executed. LLVM's model of the core (`arm_cycles`) says how many cycles that takes, and how many its
arithmetic alone would, without loads, addresses and the branch: the floor. On a Cortex-A53 that is a cycle for each
operation, of which the A55's model pairs some. Spills are loads and stores of vectors on the stack. Nothing here was
timed on ARM. Writes ``results/arm_loops.json``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from . import options, results
from .arm_blocks import Block, executed_blocks, obstacle
from .arm_cycles import MODELS, block_cycles, block_throughput, disassembled
from .bench_arm import CPUS
from .bench_conv2d import Layer
from .binary_layers import make_layers
from .lookup_networks import lookup_conv2d
from .networks import SEED

Network = tuple[nn.Module, torch.Tensor]


def _dense(inputs: int, outputs: int, kernel: int, size: int, groups: int = 1) -> Network:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
    return conv.eval(), torch.randn(1, inputs, size, size)


def _bitserial() -> Network:
    model, (x,) = make_layers(Layer(kernel=3, stride=1, channels=128, outputs=128, size=28), 1)
    return model, x


def _lookup() -> Network:
    layers = lookup_conv2d(192, 384, 3, 1, 1, dictionary=500, density=0.029)
    return nn.Sequential(*layers).eval(), torch.randn(1, 192, 13, 13)


LAYERS: dict[str, Callable[[], Network]] = {
    "direct": lambda: _dense(64, 128, 1, 28),
    "winograd": lambda: _dense(128, 128, 3, 28),
    "depthwise": lambda: _dense(96, 96, 3, 56, groups=96),
    "bitserial": _bitserial,
    "lookup": _lookup,
}

IN_ORDER = ("cortex-a53",)
ASKED = {True: 1.35, False: 1.15}
"""Cycles over the floor, of cores that are in order or not."""

_ARITHMETIC = re.compile(r"^(fmla|fmul|fadd|eor|cnt|add|uadalp)\s+v")
_SPILL = re.compile(r"^(ldr|ldp|ldur|str|stp|stur)\s+q.*\[sp")


def inner_loop(layer: str, cpu: str) -> dict[str, Any]:
    """One row."""
    torch.manual_seed(SEED)
    model, x = LAYERS[layer]()
    blocks = executed_blocks(model, x, cpu, CPUS[cpu][0])
    hottest = max(blocks, key=lambda block: block.instructions)
    lines = disassembled(hottest.code)
    arithmetic = tuple(
        word for word, line in zip(hottest.code, lines, strict=True) if _ARITHMETIC.match(line)
    )
    cycles = block_cycles(hottest.code, MODELS[cpu])
    floor = float(len(arithmetic)) if cpu in IN_ORDER else block_throughput(arithmetic, MODELS[cpu])
    return {
        "layer": layer,
        "cpu": cpu,
        "model": MODELS[cpu],
        "share_of_instructions": hottest.instructions / sum(block.instructions for block in blocks),
        "instructions": len(lines),
        "arithmetic": len(arithmetic),
        "cycles": cycles,
        "floor": floor,
        "cycles_over_floor": cycles / floor,
        "asked": ASKED[cpu in IN_ORDER],
        "spills": _spills(blocks),
    }


def _spills(blocks: list[Block]) -> float:
    """Of all instructions that are executed."""
    spilled = sum(
        block.count * sum(map(bool, map(_SPILL.match, disassembled(block.code)))) for block in blocks
    )
    return spilled / sum(block.instructions for block in blocks)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--layers", type=options.names, default=tuple(LAYERS), help=f"of {', '.join(LAYERS)}")
    given = parser.parse_args()
    if reason := obstacle():
        sys.exit(reason)
    settings = options.settings_of(given, min_time=0.0)
    rows = []
    for layer in given.layers:
        for cpu in CPUS:
            rows.append(row := inner_loop(layer, cpu))
            print(
                f"{layer}, {cpu}: {row['cycles']:.1f} cycles for {row['arithmetic']} operations that take "
                f"{row['floor']:.1f}, {row['cycles_over_floor']:.2f} (asked {row['asked']}); "
                f"{100 * row['spills']:.1f} % spills",
                flush=True,
            )
    if not given.no_write:
        results.write_results("arm_loops", settings, [], {"loops": rows})


if __name__ == "__main__":
    main()
