"""Packing of floats into bits, against copying memory: ResNet-18's activations, in both layouts.

Packing reads every float and writes a thirty-second of that; its limit is memory. ``bandwidth %`` is bytes read and
written per second over those of a ``memcpy`` inside as many bytes, each in its best turn.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tvm_fastconv.measure import roofline

from . import options, results, runner

SHAPES = ((64, 56), (128, 28), (256, 14), (512, 7))
CALLS = 200


@dataclass(frozen=True, kw_only=True)
class Packed:
    """One shape and layout: 10^9 bytes per second, of packing and of copying."""

    channels: int
    size: int
    layout: str
    median_us: float
    gb_s: float
    copy_gb_s: float

    @property
    def share(self) -> float:
        """Of the bandwidth of a copy."""
        return self.gb_s / self.copy_gb_s


def build_packing(layout: str, channels: int, size: int) -> Callable[[], float]:
    """A function that packs random floats `CALLS` times and returns the mean seconds."""
    import numpy as np
    import tvm

    from tvm_fastconv.targets import resolve_target
    from tvm_fastconv.topi.bitpack import BitpackProblem
    from tvm_fastconv.topi.bitpack_planar import PlanarProblem
    from tvm_fastconv.topi.build_operator import build, compiled
    from tvm_fastconv.topi.machines import machine_of
    from tvm_fastconv.topi.planner import Planner

    op, kind = ("bitpack_planar", PlanarProblem) if layout == "NCHW" else ("bitpack", BitpackProblem)
    target = resolve_target("native")
    planner, problem = Planner(machine_of(target)), kind(height=size, width=size, channels=channels)
    made = build(op, problem, planner.planned(op, problem).knobs, planner.machine)
    library = compiled(made.func, target)
    words = np.zeros(made.result_shape, made.result_dtype)
    arguments = [tvm.runtime.tensor(array) for array in (*made.arrays, words)]
    timer = library.mod.time_evaluator("main", tvm.cpu(), number=CALLS)
    return lambda: timer(*arguments).mean


def measure(layout: str, channels: int, size: int, library: Any, repeats: int) -> Packed:
    """Pack and copy in turns."""
    read = 4 * channels * size**2
    pack, moved = build_packing(layout, channels, size), read + read // 32
    with roofline.copy_probe(library, moved) as copy:
        seconds = []
        for _ in range(repeats):
            seconds.append(pack())
            copy.run()
    return Packed(
        channels=channels,
        size=size,
        layout=layout,
        median_us=statistics.median(seconds) * 1e6,
        gb_s=moved / min(seconds) / 1e9,
        copy_gb_s=copy.best_rate,
    )


def run(settings: runner.Settings, write: bool) -> Sequence[Packed]:
    """Measure, print and write ``bitpack.json``."""
    library = roofline.build_library(settings.isa)
    packed = [
        measure(layout, *shape, library, settings.repeats) for shape in SHAPES for layout in ("NHWC", "NCHW")
    ]
    out = results.console()
    out.print(f"packing floats into bits, {results.describe(settings)}")
    for row in packed:
        out.print(
            f"{row.layout} {row.channels:>3}@{row.size:<2} {row.median_us:6.1f} µs, {row.gb_s:4.0f} GB/s, "
            f"{row.share:.0%} of a copy's {row.copy_gb_s:.0f} GB/s"
        )
    if write:
        shares = [asdict(row) | {"share": row.share} for row in packed]
        results.write_results("bitpack", settings, [], {"packing": shares})
    return packed


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    given = parser.parse_args()
    run(options.settings_of(given), not given.no_write)


if __name__ == "__main__":
    main()
