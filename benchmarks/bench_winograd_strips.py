"""Winograd's convolution in strips of one row of tiles against the whole plane at once.

``python -m benchmarks.bench_winograd_strips`` times layers of known networks alone, in turns and with caches as a
network leaves them, prints, and writes ``results/winograd_strips.json``: what the default strip of `WinogradKnobs` is
chosen by.
"""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import replace
from typing import Any

from . import options, results

TURNS = 41
LAYERS = (
    (56, 64, 4), (28, 128, 4), (14, 256, 4), (14, 256, 2), (7, 512, 2), (28, 96, 4), (14, 192, 4), (28, 64, 4),
    (14, 64, 4), (28, 32, 4), (28, 256, 4), (14, 512, 4),
)  # fmt: skip
"""Plane, channels in and out, m."""


def measure(size: int, channels: int, m: int, runner: Any) -> dict[str, Any]:
    """One layer: how many times as fast one row of tiles is as the whole plane, and which of both is the default."""
    from tvm_fastconv.autotune.candidate import Candidate, Task
    from tvm_fastconv.autotune.comparison import paired_ratio
    from tvm_fastconv.topi.conv2d import Conv2dParams
    from tvm_fastconv.topi.schedules.cpu.winograd import WinogradKnobs
    from tvm_fastconv.topi.winograd_conv2d import WinogradProblem

    machine = runner.device.machine
    conv = Conv2dParams(kernel=(3, 3), out_channels=channels, padding=(1, 1, 1, 1))
    problem = WinogradProblem(height=size, width=size, channels=channels, conv=conv, m=m)
    default = WinogradKnobs.default(problem, machine)
    if default is None:
        raise LookupError(f"no tile fits {problem.key}")
    tile = problem.winograd_loops.tile
    rows = -(-tile.height // default.tile_h)
    task = Task("winograd_conv2d", problem)
    both = [Candidate(task, replace(default, strip=strip)) for strip in (rows, 1)]
    times = runner.compare(both, TURNS, machine.own_l3_bytes)
    if times is None:
        raise RuntimeError(f"a candidate of {problem.key} fails")
    return {
        "size": size, "channels": channels, "m": m, "rows": rows, "weight_mb": tile.weight_bytes / 1e6,
        "default_strip": default.strip, "ratio": vars(paired_ratio(*times)),
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.0)
    from tvm_fastconv.autotune.candidate import Device
    from tvm_fastconv.autotune.local_runner import LocalRunner
    from tvm_fastconv.machine_files import target_and_machine
    from tvm_fastconv.targets import spec_of

    target, machine = target_and_machine("native")
    with contextlib.closing(
        LocalRunner(Device(spec_of(target), machine, settings.threads), workers=1)
    ) as runner:
        rows = [measure(*layer, runner) for layer in LAYERS]
    for row in rows:
        ratio = row["ratio"]
        chosen = "one row" if row["default_strip"] == 1 else "the plane"
        print(
            f"{row['channels']} channels at {row['size']}, F({row['m']}), weights {row['weight_mb']:.1f} MB: "
            f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}), default {chosen}"
        )
    if not given.no_write:
        results.write_results(
            options.results_name("winograd_strips", settings), settings, [], {"layers": rows}
        )


if __name__ == "__main__":
    main()
