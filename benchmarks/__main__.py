"""Everything, in less than ten minutes: ``python -m benchmarks [--only peaks,networks,conv2d,bitserial,...]``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from tvm_fastconv.measure import roofline
from tvm_fastconv.runtime.cpu import processor_name

from . import (
    bench_bitpack,
    bench_bitserial_conv2d,
    bench_conv2d,
    bench_decompose,
    bench_dense,
    bench_few_bits,
    bench_lookup_conv2d,
    bench_networks,
    bench_xnor_gemm,
    memory,
    options,
    results,
)


def peaks(given: argparse.Namespace) -> None:
    """Print and write the machine's own limits."""
    settings = options.settings_of(given)
    measured = roofline.measure_peaks(settings.isa)
    out = results.console()
    out.print(
        f"one core of {processor_name()}, {measured.lanes} float32 lanes: {measured.fma_gflops:.0f} GFLOP/s, "
        f"{measured.xnor_gmacs:.0f} binary GMAC/s"
    )
    for level, read in measured.read_gb_s.items():
        out.print(
            f"{level:>5}: read {read:.0f} GB/s, copy {measured.copy_gb_s[level]:.0f} GB/s (read + written)"
        )
    if not given.no_write:
        results.write_results(
            options.results_name("peaks", settings), settings, [], {"peaks": asdict(measured)}
        )


def networks(given: argparse.Namespace) -> None:
    """Measure every network, batch 1."""
    settings = options.settings_of(given)
    from .networks import BINARY_NETWORKS, NETWORKS

    for names in (NETWORKS, BINARY_NETWORKS):
        bench_networks.run(settings, tuple(names), 1, not given.no_write)


def conv2d(given: argparse.Namespace) -> None:
    """Measure every single layer."""
    settings = options.settings_of(given, bench_conv2d.MIN_TIME, bench_conv2d.ENGINES)
    bench_conv2d.run(settings, bench_conv2d.LAYERS, not given.no_write)


def grouped(given: argparse.Namespace) -> None:
    """Measure grouped convolutions, and a network of them."""
    settings = options.settings_of(given, bench_conv2d.MIN_TIME, bench_conv2d.ENGINES)
    from . import bench_grouped
    from .grouped_networks import LAYERS, NETWORKS

    bench_grouped.run(settings, (*LAYERS, *NETWORKS), not given.no_write)


def bitserial(given: argparse.Namespace) -> None:
    """Measure binary layers, and their kernels alone."""
    settings = options.settings_of(given, bench_conv2d.MIN_TIME, bench_conv2d.ENGINES)
    bench_bitserial_conv2d.run(settings, bench_bitserial_conv2d.LAYERS, not given.no_write)


def lookup(given: argparse.Namespace) -> None:
    """Measure networks with lookups, and pruned layers of every density."""
    from .lookup_networks import LOOKUP_NETWORKS

    settings = options.settings_of(given)
    bench_networks.run(settings, tuple(LOOKUP_NETWORKS), 1, not given.no_write)
    settings = options.settings_of(given, bench_conv2d.MIN_TIME, bench_conv2d.ENGINES)
    bench_lookup_conv2d.run(settings, bench_lookup_conv2d.LAYERS, not given.no_write)


def few_bits(given: argparse.Namespace) -> None:
    """Measure layers of two bits beside binary ones."""
    bench_few_bits.run(options.settings_of(given, bench_conv2d.MIN_TIME), not given.no_write)


def bitpack(given: argparse.Namespace) -> None:
    """Measure packing floats into bits."""
    bench_bitpack.run(options.settings_of(given), not given.no_write)


def separable(given: argparse.Namespace) -> None:
    """Measure chains of separable convolutions."""
    settings = options.settings_of(given, bench_conv2d.MIN_TIME, bench_conv2d.ENGINES)
    from . import bench_separable
    from .separable_layers import LAYERS

    bench_separable.run(settings, LAYERS, not given.no_write)


def separable_networks(given: argparse.Namespace) -> None:
    """Measure networks with separable convolutions."""
    settings = options.settings_of(given)
    from . import bench_separable_networks
    from .separable_networks import SEPARABLE_NETWORKS

    bench_separable_networks.run(settings, SEPARABLE_NETWORKS, not given.no_write)


def dense(given: argparse.Namespace) -> None:
    """Measure fully connected layers."""
    bench_dense.run(options.settings_of(given), not given.no_write)


def xnor_gemm(given: argparse.Namespace) -> None:
    """Measure products of signs."""
    if given.isa != "native":
        print("xnor_gemm: left out, it compiles for this machine only", file=sys.stderr)
        return
    bench_xnor_gemm.run(bench_xnor_gemm.settings_of(given), bench_xnor_gemm.SIZES, not given.no_write)


def loaded(given: argparse.Namespace) -> None:
    """Measure what a large and a small network take when loaded."""
    memory.run(options.settings_of(given), ("resnet18", "mobilenet_v2"), not given.no_write)


def decompose(given: argparse.Namespace) -> None:
    """Measure how long it takes to factorise a large layer."""
    bench_decompose.run(options.settings_of(given), bench_decompose.SHAPE, not given.no_write)


PARTS = {
    "peaks": peaks,
    "networks": networks,
    "conv2d": conv2d,
    "grouped": grouped,
    "bitserial": bitserial,
    "few_bits": few_bits,
    "bitpack": bitpack,
    "lookup": lookup,
    "separable": separable,
    "separable_networks": separable_networks,
    "dense": dense,
    "xnor_gemm": xnor_gemm,
    "memory": loaded,
    "decompose": decompose,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--only", type=options.names, default=tuple(PARTS), help="of " + ", ".join(PARTS))
    given = parser.parse_args()
    unknown = set(given.only) - set(PARTS)
    if unknown:
        sys.exit(f"--only {', '.join(sorted(unknown))}: known are {', '.join(PARTS)}")
    for name in given.only:
        PARTS[name](given)


if __name__ == "__main__":
    main()
