"""Everything, in less than ten minutes: ``python -m benchmarks [--only peaks,networks,conv2d,memory]``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace

from . import bench_conv2d, bench_networks, memory, options, results, roofline, runner


def peaks(settings: runner.Settings, write: bool) -> None:
    """Print and write the machine's own limits."""
    measured = roofline.measure_peaks(settings.isa)
    out = results.console()
    out.print(
        f"one core of {results.cpu_model()}, {measured.lanes} float32 lanes: {measured.fma_gflops:.0f} GFLOP/s"
    )
    for level, read in measured.read_gb_s.items():
        out.print(
            f"{level:>5}: read {read:.0f} GB/s, copy {measured.copy_gb_s[level]:.0f} GB/s (read + written)"
        )
    if write:
        results.write_results(
            options.results_name("peaks", settings), settings, [], {"peaks": asdict(measured)}
        )


def networks(settings: runner.Settings, write: bool) -> None:
    """Measure every network, batch 1."""
    from .networks import NETWORKS

    bench_networks.run(settings, tuple(NETWORKS), 1, write)


def conv2d(settings: runner.Settings, write: bool) -> None:
    """Measure every single layer."""
    bench_conv2d.run(replace(settings, min_time=bench_conv2d.MIN_TIME), bench_conv2d.LAYERS, write)


def loaded(settings: runner.Settings, write: bool) -> None:
    """Measure the memory of the networks that the project sets itself limits for."""
    memory.run(settings, ("resnet18", "mobilenet_v2"), write)


PARTS = {"peaks": peaks, "networks": networks, "conv2d": conv2d, "memory": loaded}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--only", type=options.names, default=tuple(PARTS), help="of " + ", ".join(PARTS))
    given = parser.parse_args()
    unknown = set(given.only) - set(PARTS)
    if unknown:
        sys.exit(f"--only {', '.join(sorted(unknown))}: known are {', '.join(PARTS)}")
    settings = options.settings_of(given)
    for name in given.only:
        PARTS[name](settings, not given.no_write)


if __name__ == "__main__":
    main()
