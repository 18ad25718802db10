"""What ARM's CPUs execute for one inference: ``python -m benchmarks.bench_arm`` writes ``results/arm.json``.

Instructions are counted by an emulator, cycles are LLVM's models' of the cores (`arm_cycles`): no misses of caches or
branches, no memory. Nothing here was timed on ARM. Beside them, the multiply-adds of whole vectors of floats that were
executed, and the fewest cycles that these take.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from . import options, results
from .arm_blocks import executed_blocks, obstacle
from .arm_cycles import MODELS, cycles, vector_products
from .lookup_networks import LOOKUP_NETWORKS, make_lookup_network
from .networks import ALL_NETWORKS, make_network

CPUS = {
    "cortex-a53": ("cortex-a53", 1), "cortex-a72": ("cortex-a72", 1), "neoverse-n1": ("neoverse-n1", 2),
    "neoverse-v1": ("max", 4),
}  # fmt: skip
"""LLVM's name of a CPU → qemu's, and multiply-adds of whole vectors in a cycle."""

DEFAULT = ("resnet18", "mobilenet_v2", "bireal18", "lcnn_accurate_alexnet")


def counted(network: str, cpu: str) -> dict[str, Any]:
    """One row."""
    make = make_lookup_network if network in LOOKUP_NETWORKS else make_network
    model, (x,) = make(network)
    emulated, per_cycle = CPUS[cpu]
    blocks = executed_blocks(model, x, cpu, emulated)
    products = vector_products(blocks)
    return {
        "network": network,
        "cpu": cpu,
        "instructions": sum(block.instructions for block in blocks),
        "model": MODELS[cpu],
        "cycles": cycles(blocks, MODELS[cpu]),
        "vector_products": products,
        "least_cycles_of_products": products / per_cycle,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    known = (*ALL_NETWORKS, *LOOKUP_NETWORKS)
    parser.add_argument("--networks", type=options.names, default=DEFAULT, help=f"of {', '.join(known)}")
    given = parser.parse_args()
    if reason := obstacle():
        sys.exit(reason)
    settings = options.settings_of(given, min_time=0.0)
    rows = []
    for network in given.networks:
        for cpu in CPUS:
            rows.append(row := counted(network, cpu))
            print(
                f"{network}, {cpu}: {row['instructions'] / 1e6:.1f} M instructions, {row['cycles'] / 1e6:.1f} M cycles "
                f"({row['least_cycles_of_products'] / 1e6:.1f} of multiply-adds)",
                flush=True,
            )
    if not given.no_write:
        results.write_results("arm", settings, [], {"counts": rows})


if __name__ == "__main__":
    main()
