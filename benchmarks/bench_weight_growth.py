"""What it costs to keep Winograd's weights small: ``python -m benchmarks.bench_weight_growth``.

Networks compiled with `LIMIT` times their weights at most, and as they come: bytes of both files, milliseconds here in
turns, and the modelled cycles of ARM's cores (`bench_arm`). Writes ``results/weight_growth.json``.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import tvm_fastconv as fc
from tvm_fastconv.measure.timing import interleave
from tvm_fastconv.runtime.cpu import processor_name

from . import options, results
from .arm_blocks import obstacle
from .bench_arm import CPUS, counted
from .networks import make_network

LIMIT = 1.5
TURNS, TURN_SECONDS = 41, 0.05
TIMED, COUNTED = ("resnet18", "squeezenet1_1"), ("resnet18",)


def timed(network: str, threads: int) -> dict[str, Any]:
    """Bytes of both files, and the time of the limited one over the other's."""
    model, (x,) = make_network(network)
    sizes: dict[float, int] = {}
    loaded: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for growth in (LIMIT, math.inf):
            path = Path(folder, f"{growth}.so")
            fc.compile(model, x, weight_growth=growth, threads=threads, verify=False).save(path)
            sizes[growth] = os.path.getsize(path)
            loaded[str(growth)] = fc.load(path, threads=threads)
        array = x.numpy()
        calls = {name: lambda run=run: run(array) for name, run in loaded.items()}
        limited, free = (timing.samples for timing in interleave(calls, TURNS, TURN_SECONDS).values())
    ratios = [one / other for one, other in zip(limited, free, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return {
        "network": network, "bytes": sizes[LIMIT], "bytes_without_limit": sizes[math.inf],
        "time_over_unlimited": {"median": median, "quartiles": [low, high]},
        "ms": 1e3 * statistics.median(limited), "ms_without_limit": 1e3 * statistics.median(free),
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=TURN_SECONDS)
    here = [timed(network, settings.threads) for network in TIMED]
    for row in here:
        print(
            f"{row['network']}, {processor_name()}: {row['bytes'] / 1e6:.1f} instead of "
            f"{row['bytes_without_limit'] / 1e6:.1f} MB, {row['time_over_unlimited']['median']:.3f} of the time"
        )
    if reason := obstacle():
        print(f"nothing is counted for ARM: {reason}", file=sys.stderr)
    arm = []
    for network in () if reason else COUNTED:
        for cpu in CPUS:
            both = [counted(network, cpu, weight_growth=growth)["cycles"] for growth in (LIMIT, math.inf)]
            arm.append({"network": network, "cpu": cpu, "cycles": both[0], "cycles_without_limit": both[1]})
            print(
                f"{network}, {cpu}: {both[0] / 1e6:.1f} instead of {both[1] / 1e6:.1f} M cycles", flush=True
            )
    if not given.no_write:
        name = options.results_name("weight_growth", settings)
        results.write_results(name, settings, [], {"limit": LIMIT, "timed": here, "arm": arm})


if __name__ == "__main__":
    main()
