"""A training step of each trainable layer against its dense twin: forward, backward, in turns.

``python -m benchmarks.bench_train_layers`` prints how many times as long the layer takes, and writes
``results/train_layers.json``. One layer alone, without an optimizer: a batch of 32 planes of 28×28, 64 channels.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tvm_fastconv.train import layers
from tvm_fastconv.train.compress import penalty

from . import options, results

BATCH, CHANNELS, SIZE = 32, 64, 28
SHAPE = (CHANNELS, CHANNELS, 3, 1, 1)
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "lookup, 16 atoms": lambda: layers.LookupConv2d(*SHAPE, dictionary_size=16),
    "lookup, 64 atoms": lambda: layers.LookupConv2d(*SHAPE, dictionary_size=64),
    "lookup, 128 atoms": lambda: layers.LookupConv2d(*SHAPE, dictionary_size=128),
    "binary, sign": lambda: layers.BinaryConv2d(*SHAPE),
    "binary, learned steps": lambda: layers.BinaryConv2d(*SHAPE, weight="lsq", activation="signed_lsq"),
    "2 bits, DoReFa": lambda: layers.BinaryConv2d(
        *SHAPE, weight="dorefa", activation="dorefa", weight_bits=2, activation_bits=2
    ),
    "2 bits, learned steps": lambda: layers.BinaryConv2d(
        *SHAPE, weight="lsq", activation="lsq", weight_bits=2, activation_bits=2
    ),
    "spatial": lambda: layers.SpatialSeparableConv2d(*SHAPE),
    "cp, rank 64": lambda: layers.CPConv2d(*SHAPE, rank=64),
    "tucker, half": lambda: layers.TuckerConv2d(*SHAPE, ranks=(32, 32)),
    "separable": lambda: layers.DepthwiseSeparableConv2d(*SHAPE),
    "fixed stencils": lambda: layers.FixedStencilConv2d(*SHAPE),
}


def step(layer: nn.Module, x: torch.Tensor) -> float:
    """Seconds of one step."""
    layer.zero_grad()
    start = time.perf_counter()
    (layer(x).square().mean() + penalty(layer)).backward()
    return time.perf_counter() - start


def measure(build: Callable[[], nn.Module], repeats: int) -> dict[str, Any]:
    """How many times as long a step of the layer takes as one of the dense layer, each after the other."""
    torch.manual_seed(0)
    dense, layer = nn.Conv2d(*SHAPE), build()
    x = torch.randn(BATCH, CHANNELS, SIZE, SIZE, requires_grad=True)
    pairs = [(step(dense, x), step(layer, x)) for _ in range(repeats + 2)][2:]
    ratios = sorted(b / a for a, b in pairs)
    return {
        "ratio": statistics.median(ratios),
        "quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
        "dense_ms": 1e3 * statistics.median(a for a, _ in pairs),
        "macs_ratio": _macs(layer) / _macs(dense),
    }


def _macs(layer: nn.Module) -> int:
    """Multiplications for one pixel, dense where weights are sparse."""
    return sum(
        part.weight.numel() for part in layer.modules() if hasattr(part, "weight") and part.weight.ndim > 1
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.0)
    torch.set_num_threads(settings.threads)
    rows = {name: measure(build, max(settings.repeats, 21)) for name, build in LAYERS.items()}
    for name, row in rows.items():
        low, high = row["quartiles"]
        times, share = f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})", row["macs_ratio"]
        print(f"{name}: {times} times as long, {share:.2f} of the products")
    if not given.no_write:
        results.write_results(options.results_name("train_layers", settings), settings, [], {"layers": rows})


if __name__ == "__main__":
    main()
