"""How much faster several devices of one key tune than one: ``python -m benchmarks.bench_rpc_devices``.

Devices are servers on this machine whose answers come late (``--latency``), as those of slower machines do: what is
measured is whether they work side by side. Rounds of one and of two devices take turns. Writes
``results/rpc_devices.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import options, results

if TYPE_CHECKING:
    from tvm_fastconv.autotune.rpc_address import Address
    from tvm_fastconv.topi.problem import Problem

LATENCY = "FASTCONV_BENCH_LATENCY"
KEY = "slow"
COUNTS = (1, 2)


def answer_late(description: str) -> None:
    """In the process of a server: as usual, and then wait."""
    import tvm_ffi

    from tvm_fastconv.autotune.rpc_trial import TIME, serve_times
    from tvm_fastconv.autotune.serve import announce

    def late(*arguments: Any) -> str:
        time.sleep(float(os.environ[LATENCY]))
        return serve_times(*arguments)

    announce(description)
    tvm_ffi.register_global_func(TIME, late, override=True)


@contextlib.contextmanager
def devices(count: int) -> Iterator[Address]:
    """So many servers, and a tracker that knows them."""
    from tvm.rpc import connect_tracker
    from tvm.rpc.tracker import Tracker

    from tvm_fastconv.autotune.rpc_address import Address, Description
    from tvm_fastconv.autotune.serve import serving
    from tvm_fastconv.machine_files import target_and_machine
    from tvm_fastconv.targets import spec_of

    target, row = target_and_machine("native")
    description = Description(spec_of(target), row, "this machine, answering late", 3e9)
    tracker = Tracker("127.0.0.1", 9590, 9690, silent=True)
    place = ("127.0.0.1", tracker.port)
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(serving(description, KEY, "", place, port=9691, prepare=answer_late))
            while connect_tracker(*place).summary()["queue_info"].get(KEY, {"free": 0})["free"] < count:
                time.sleep(0.1)
            yield Address("127.0.0.1", tracker.port, KEY)
    finally:
        tracker.terminate()


def trials_per_minute(count: int, trials: int) -> float:
    """With so many devices."""
    from tvm_fastconv.autotune.candidate import Task
    from tvm_fastconv.autotune.rpc_runner import RPCRunner
    from tvm_fastconv.autotune.search import Search

    with devices(count) as address, contextlib.closing(RPCRunner(address)) as runner:
        candidates = Search(Task("conv2d", _problem()), runner.device).propose(trials + count, None)
        runner.run(candidates[:count])  # starts the workers
        begin = time.monotonic()
        outcomes = runner.run(candidates[count:])
        seconds = time.monotonic() - begin
    if errors := [outcome.error for outcome in outcomes if outcome.error]:
        raise RuntimeError(f"{len(errors)} trials failed: {errors[0]}")
    return 60 * trials / seconds


def _problem() -> Problem:
    from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem

    conv = Conv2dParams(kernel=(1, 1), out_channels=64)
    return ConvProblem(height=14, width=14, channels=128, conv=conv)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--latency", type=float, default=1.0, help="seconds by which answers come late (default 1)"
    )
    parser.add_argument("--trials", type=int, default=24, help="of each round (default 24)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-write", action="store_true")
    given = parser.parse_args()
    os.environ[LATENCY] = str(given.latency)
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    for _ in range(given.rounds):
        for count in COUNTS:
            rates[count].append(trials_per_minute(count, given.trials))
            print(f"{count} device(s): {rates[count][-1]:.0f} trials a minute", flush=True)
    ratio = statistics.median(two / one for one, two in zip(rates[1], rates[2], strict=True))
    print(f"two devices: {ratio:.2f} times the trials of one")
    if not given.no_write:
        settings = options.Settings(
            engines=(options.OURS,), threads=1, isa="native", repeats=given.rounds, min_time=given.latency
        )
        extra = {"latency": given.latency, "trials_per_minute": rates, "ratio": ratio}
        results.write_results("rpc_devices", settings, [], extra)


if __name__ == "__main__":
    main()
