"""What ARM's CPUs execute for one inference: ``python -m benchmarks.bench_arm`` writes ``results/arm.json``.

Instructions are counted by an emulator, cycles are LLVM's models' of the cores (`arm_cycles`): no misses of caches or
branches, no memory. Nothing here was timed on ARM. Beside them, the multiply-adds of whole vectors of floats that were
executed, and the fewest cycles that these take.

``--rivals`` counts ncnn and ONNX Runtime as well (`arm_rivals`), float32 on one thread, and writes how much we need of
what each of them needs; networks with lookup layers have no rivals. Binary convolutions are floats to both. ncnn's
Winograd rounds their sums, which turns signs from layer to layer: binary networks are counted without it, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import options, results
from .arm_blocks import executed_blocks, obstacle
from .arm_cycles import MODELS, cycles, vector_products
from .arm_rivals import (
    RIVALS,
    WITHOUT_WINOGRAD,
    export,
    fetch_rivals,
    rival_blocks,
    rival_obstacle,
    rival_versions,
)
from .lookup_networks import LOOKUP_NETWORKS, make_lookup_network
from .networks import ALL_NETWORKS, BINARY_NETWORKS, make_network

CPUS = {
    "cortex-a53": ("cortex-a53", 1), "cortex-a72": ("cortex-a72", 1), "neoverse-n1": ("neoverse-n1", 2),
    "neoverse-v1": ("max,sme=off,sve-default-vector-length=32", 4),
}  # fmt: skip
"""LLVM's name of a CPU → qemu's, and multiply-adds of whole vectors in a cycle.

qemu 7.2 has no V1: the most capable that it has, without the matrices of SME, and with vectors of 32 bytes.
"""

ALSO_AS = {("ncnn", "cortex-a53"): "cortex-a72"}
"""Engine and CPU → another that the engine is told it runs on.

Told of an A53, ncnn takes kernels that split each vector load, for the sake of the A53's ports. The A55's model, which
has to do, charges it 19 to 28 % more for them than for those of other cores.
"""

RIGHT = 1e-3
"""Of the largest output: engines measure less than 1e-5, arithmetic in fp16 or bf16 measures more than this."""

DEFAULT = ("resnet18", "mobilenet_v2", "bireal18", "lcnn_accurate_alexnet")


def counted(network: str, cpu: str, **how: Any) -> dict[str, Any]:
    """One row; ``how`` as for `deploy`."""
    make = make_lookup_network if network in LOOKUP_NETWORKS else make_network
    model, (x,) = make(network)
    emulated, per_cycle = CPUS[cpu]
    blocks = executed_blocks(model, x, cpu, emulated, **how)
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


def rival_rows(network: str, ours: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the rivals, with ours over theirs; ``ours`` has our row for each CPU."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model, (x,) = make_network(network)
        export(model, x, Path(folder))
        for cpu, row in ours.items():
            for engine in (*RIVALS, *([WITHOUT_WINOGRAD] if network in BINARY_NETWORKS else [])):
                for core in filter(None, (cpu, ALSO_AS.get((engine, cpu)))):
                    rows.append(_rival_row(engine, core, row, Path(folder)))
    return rows


def _rival_row(engine: str, core: str, ours: dict[str, Any], folder: Path) -> dict[str, Any]:
    row = {"network": ours["network"], "cpu": ours["cpu"], "engine": engine, "told": core}
    try:
        blocks, error = rival_blocks(engine, folder, core, CPUS[ours["cpu"]][0])
    except subprocess.CalledProcessError as why:
        return {**row, "failed": f"exit code {why.returncode}"}
    theirs = {
        "instructions": sum(block.instructions for block in blocks),
        "cycles": cycles(blocks, ours["model"]),
    }
    row |= {"error": error, "right": error <= RIGHT, **theirs, "vector_products": vector_products(blocks)}
    return compared(row, ours)


def compared(row: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """A rival's row with our figures over its."""
    both = ("instructions", "cycles")
    return row | {f"{name}_ours_over_theirs": ours[name] / row[name] for name in both if name in row}


def _print_rival(row: dict[str, Any]) -> None:
    told = "" if row["told"] == row["cpu"] else f", told of a {row['told']}"
    start = f"{row['network']}, {row['cpu']}, {row['engine']}{told}:"
    if "failed" in row:
        print(start, "failed,", row["failed"], flush=True)
        return
    print(
        f"{start} {row['instructions'] / 1e6:.1f} M instructions, {row['cycles'] / 1e6:.1f} M cycles; ours over theirs "
        f"{row['instructions_ours_over_theirs']:.2f} and {row['cycles_ours_over_theirs']:.2f}"
        + ("" if row["right"] else f"; its answer is {row['error']:.1e} off"),
        flush=True,
    )


def _counted_before(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rivals of the last time, which do not change with our code, beside our ``rows``."""
    known = json.loads((results.RESULTS / "arm.json").read_text())
    ours = {(row["network"], row["cpu"]): row for row in rows}
    rivals = []
    for row in known["rivals"]:
        own = ours.get((row["network"], row["cpu"]))
        rivals.append(row if own is None else compared(row, own))
    return {"rivals": rivals, "rival_versions": known["rival_versions"]}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    known = (*ALL_NETWORKS, *LOOKUP_NETWORKS)
    parser.add_argument("--networks", type=options.names, default=DEFAULT, help=f"of {', '.join(known)}")
    parser.add_argument("--rivals", action="store_true", help=f"count {' and '.join(RIVALS)} as well")
    given = parser.parse_args()
    if reason := obstacle() or (rival_obstacle() if given.rivals else None):
        sys.exit(reason)
    settings = options.settings_of(given, min_time=0.0)
    if given.rivals:
        try:
            fetch_rivals()
        except subprocess.CalledProcessError as why:
            sys.exit(
                f"the rivals cannot be fetched: {why.cmd[0]} {why.cmd[1]} failed with exit code {why.returncode}"
            )
    rows, rivals = [], []
    for network in given.networks:
        for cpu in CPUS:
            rows.append(row := counted(network, cpu))
            print(
                f"{network}, {cpu}: {row['instructions'] / 1e6:.1f} M instructions, {row['cycles'] / 1e6:.1f} M cycles "
                f"({row['least_cycles_of_products'] / 1e6:.1f} of multiply-adds)",
                flush=True,
            )
        if given.rivals and network in ALL_NETWORKS:
            ours = {row["cpu"]: row for row in rows if row["network"] == network}
            rivals += (found := rival_rows(network, ours))
            for row in found:
                _print_rival(row)
    if not given.no_write:
        extra = (
            {"rivals": rivals, "rival_versions": rival_versions()} if given.rivals else _counted_before(rows)
        )
        results.write_results("arm", settings, [], {"counts": rows, **extra})


if __name__ == "__main__":
    main()
