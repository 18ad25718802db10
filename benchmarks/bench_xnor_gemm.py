"""``fc.ops.xnor_gemm``, float matrices in and out, against ``torch.matmul`` of the same signs in FP32.

Square matrices; odd sizes show what tails cost. Packing both sides, and a new tensor for the result, are inside our
time. ``peak %`` is binary multiply-accumulates per second in our best turn over the peak of exclusive or + popcount +
add in registers, sampled in the same turns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from tvm_fastconv.measure import roofline

from . import bench_conv2d, options, results, runner

SIZES = (1024, 1023, 2048, 2047, 4096, 4097, 8192)
LONG_MACS = 10**11  # a product of more takes seconds in FP32; three turns will do
TORCH = "torch"


def make_products(size: int) -> dict[str, Any]:
    """Functions of no arguments that multiply the same signs: ours, those of random floats, and PyTorch's.

    Raises
    ------
    RuntimeError
        Their results differ.
    """
    import torch

    import tvm_fastconv as fc

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator) for _ in range(2))
    signs = [torch.where(x >= 0, 1.0, -1.0) for x in (a, b)]
    if not torch.equal(fc.ops.xnor_gemm(a, b), torch.matmul(*signs)):
        raise RuntimeError(f"xnor_gemm of {size} x {size} matrices is not the product of their signs")
    return {runner.OURS: lambda: fc.ops.xnor_gemm(a, b), TORCH: lambda: torch.matmul(*signs)}


def measure(size: int, settings: runner.Settings, peak: roofline.Probe) -> runner.Row:
    """One size, with the peak in turns."""
    import torch

    from tvm_fastconv.measure.timing import interleave

    torch.set_num_threads(settings.threads)
    macs = size**3
    repeats = min(settings.repeats, 3) if macs > LONG_MACS else settings.repeats
    timings = interleave({**make_products(size), "peak": peak.run}, repeats, settings.min_time)
    engines = {
        name: runner.Measured(
            status="ok",
            median_ms=timings[name].median * 1e3,
            best_ms=timings[name].best * 1e3,
            spread=timings[name].spread,
            samples_ms=tuple(seconds * 1e3 for seconds in timings[name].samples),
        )
        for name in (runner.OURS, TORCH)
    }
    case = runner.Case(name=f"{size}", make=lambda: (None, ()), facts={"macs": macs})
    return runner.compare(case, engines)


def run(settings: runner.Settings, sizes: Sequence[int], write: bool) -> list[runner.Row]:
    """Measure, print and write ``xnor_gemm[-t<threads>].json``."""
    peak = roofline.xnor_probe(roofline.build_library(settings.isa))
    rows, shares = [], []
    for size in sizes:
        print(f"{size} ...", file=sys.stderr, flush=True)
        rows.append(row := measure(size, settings, peak))
        best = row.engines[runner.OURS].best_ms or float("nan")
        gmacs, most = row.facts["macs"] / (best * 1e6), peak.best_rate * settings.threads
        shares.append({"gmacs": gmacs, "peak_gmacs": most, "ours": gmacs / most})
    columns = {
        "GMAC/s": [f"{share['gmacs']:.0f}" for share in shares],
        "peak %": [bench_conv2d.percent(share["ours"]) for share in shares],
    }
    results.print_table(f"milliseconds, n x n by n x n, {results.describe(settings)}", rows, columns)
    if write:
        name = options.results_name("xnor_gemm", settings)
        results.write_results(name, settings, rows, {"shares_of_peak": shares})
    return rows


def settings_of(given: argparse.Namespace) -> runner.Settings:
    """The options, pinned; no instruction set but this machine's, which our operator compiles for."""
    if given.isa != "native":
        sys.exit("xnor_gemm compiles for this machine: --isa native only")
    return options.settings_of(given, engines=(runner.OURS, TORCH))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--sizes", type=options.names, default=tuple(map(str, SIZES)), help="comma-separated")
    given = parser.parse_args()
    run(settings_of(given), [int(size) for size in given.sizes], not given.no_write)


if __name__ == "__main__":
    main()
