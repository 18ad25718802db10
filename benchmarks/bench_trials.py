"""How many candidates tuning builds, checks and times in a second: ``python -m benchmarks.bench_trials``.

One small layer of each operator, on all cores of this machine. Writes ``results/trials.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from typing import TYPE_CHECKING

from . import options, results
from .search_layers import plane

if TYPE_CHECKING:
    from .search_layers import Layer


def layers() -> dict[str, Layer]:
    """Name → layer: 64 channels at 14, and what is like it."""
    made = (
        plane("conv2d", 14, 64, 64), plane("conv2d", 14, 64, 64, kernel=1), plane("winograd_conv2d", 14, 64, 64, m=4),
        plane("depthwise_conv2d", 14, 64, 64, groups=64), plane("grouped_conv2d", 14, 64, 64, groups=8),
        plane("lookup_conv2d", 14, 64, 64, nonzeros=1800),
    )  # fmt: skip
    return {f"{op} {what}": (op, problem) for op, what, problem in made}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40, help="of each layer (default 40)")
    parser.add_argument("--no-write", action="store_true")
    given = parser.parse_args()
    from tvm_fastconv.autotune.candidate import Device, Task
    from tvm_fastconv.autotune.local_runner import LocalRunner
    from tvm_fastconv.autotune.search import Search
    from tvm_fastconv.machine_files import target_and_machine
    from tvm_fastconv.targets import spec_of

    target, machine = target_and_machine("native")
    rates: dict[str, float] = {}
    with contextlib.closing(LocalRunner(Device(spec_of(target), machine))) as runner:
        for name, layer in layers().items():
            candidates = Search(Task(*layer), runner.device).propose(given.trials + runner.width, None)
            runner.run(candidates[: runner.width])  # starts the workers
            begin = time.monotonic()
            outcomes = runner.run(candidates[runner.width :])
            rates[name] = len(outcomes) / (time.monotonic() - begin)
            failed = sum(outcome.error is not None for outcome in outcomes)
            print(
                f"{name}: {rates[name]:.1f} trials a second, {failed} of {len(outcomes)} failed", flush=True
            )
    if not given.no_write:
        cores = len(os.sched_getaffinity(0))
        settings = options.Settings(engines=(options.OURS,), threads=1, repeats=1, min_time=0.0)
        extra = {"workers": cores, "trials_per_second": rates}
        results.write_results("trials", settings, [], extra)


if __name__ == "__main__":
    main()
