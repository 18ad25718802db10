"""How long compiling takes, here and for ARM: ``python -m benchmarks.bench_compile_times``.

Seconds of processor time, its children's included, without verification and with it (for ARM, in an emulator, if there
is one). Writes ``results/compile_times.json``.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import torch
from torch import nn

import tvm_fastconv as fc

from . import options, results
from .networks import make_network

NETWORKS = ("resnet18", "mobilenet_v2")
TARGETS = ("native", "cortex-a53", "cortex-a72")


def _compile(model: nn.Module, x: torch.Tensor, target: str, verify: bool) -> tuple[float, float, str]:
    """Seconds of processor and of wall clock, and what verification says."""
    times, begin = os.times(), time.perf_counter()
    compiled = fc.compile(model, x, target=target, verify=verify)
    used = sum(os.times()[:4]) - sum(times[:4])
    return used, time.perf_counter() - begin, compiled.manifest.verify


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.0)
    rows: list[dict[str, Any]] = []
    for target in TARGETS:  # what is loaded and cached once is nobody's
        _compile(nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8), target, verify=True)
    for network in NETWORKS:
        model, (x,) = make_network(network)
        native = 0.0
        for target in TARGETS:
            plain, whole = (_compile(model, x, target, verify) for verify in (False, True))
            native = native or plain[0]
            rows.append(
                {
                    "network": network, "target": target, "seconds": plain[0], "wall_seconds": plain[1],
                    "over_native": plain[0] / native, "verified_seconds": whole[0], "verified_wall_seconds": whole[1],
                    "verify": whole[2],
                }
            )  # fmt: skip
            print(
                f"{network}, {target}: {plain[0]:.1f} s ({plain[0] / native:.2f} of native), "
                f"verified {whole[0]:.1f} s",
                flush=True,
            )
    if not given.no_write:
        results.write_results("compile_times", settings, [], {"compiled": rows})


if __name__ == "__main__":
    main()
