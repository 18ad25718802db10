"""Training on compiled kernels of packed bits: xnor-bnn's 1 000 steps with and without, and steps of other networks.

``python -m benchmarks.bench_train_xnor --folder DIR`` trains BinaryNet's MLP on Fashion-MNIST in floats, in bits on
PyTorch and in bits on the kernels, then times steps in turns; ``results/train_xnor.json``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tvm_fastconv.train.layers.xnor_products import use_xnor_
from tvm_fastconv.train.models import make_model
from tvm_fastconv.train.recipes import xnor_mlp
from tvm_fastconv.train.running import Job

from . import options, results
from .trainings import trained

BATCH, EPOCHS = 120, 2
"""1 000 steps of 60 000 images."""
NETWORKS: dict[str, tuple[str, int, int, int, dict[str, Any]]] = {
    "binary_mlp, 512 units, batch 128": ("binary_mlp", 128, 1, 28, {"hidden": 512}),
    "binary_mlp, 2048 units, batch 512": ("binary_mlp", 512, 1, 28, {"hidden": 2048}),
    "binary_conv_net, 64 to 256 channels, batch 64": ("binary_conv_net", 64, 3, 32, {"width": 64}),
    "all_cnn_c, 32 to 64 channels, batch 128": (
        *("all_cnn_c", 128, 1, 28),
        {"width": 1 / 3, "stem_stride": 2, "activation": "none"},
    ),
}
"""Name to network, images in a batch, their channels and size, and options."""


def jobs() -> dict[str, Job]:
    """The recipe's three forms."""
    given = {"epochs": EPOCHS, "batch_size": BATCH}
    floats, bits = (xnor_mlp("fashion-mnist", binary, **given) for binary in (False, True))
    return {
        "floats": floats,
        "bits": bits,
        "bits on kernels": replace(bits, settings=replace(bits.settings, xnor=True)),
    }


def speeds(repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of whole steps, Adam included, on PyTorch and on the kernels, each after the other."""
    found = {}
    for title, (name, batch, channels, size, network) in NETWORKS.items():
        torch.manual_seed(0)
        model = make_model(name, classes=10, channels=channels, size=size, methods="binary", **network)
        images, labels = torch.rand(batch, channels, size, size), torch.randint(0, 10, (batch,))
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        pairs = []
        for _ in range(repeats + 2):
            pair = []
            for on in (False, True):
                use_xnor_(model, on)
                start = time.perf_counter()
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images), labels).backward()
                optimizer.step()
                pair.append(time.perf_counter() - start)
            pairs.append(pair)
        pairs = pairs[2:]  # code is compiled in the first
        ratios = sorted(plain / packed for plain, packed in pairs)
        found[title] = {
            "times_as_fast": statistics.median(ratios),
            "low": ratios[len(ratios) // 4],
            "high": ratios[3 * len(ratios) // 4],
            "plain_ms": 1e3 * statistics.median(plain for plain, _ in pairs),
        }
        print(title, found[title], flush=True)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--folder", type=Path, required=True, help="for the trainings")
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.0)
    rows = {}
    for name, job in jobs().items():
        history = trained(job, given.folder / name.replace(" ", "_")).history
        rows[name] = {
            "top1": history[-1]["top1"],
            "train_loss": [row["train_loss"] for row in history],
            "images_per_second": statistics.median(row["images_per_second"] for row in history),
        }
        print(name, rows[name], flush=True)
    steps = speeds(max(settings.repeats, 15))
    if not given.no_write:
        results.write_results("train_xnor", settings, [], {"trainings": rows, "steps": steps})


if __name__ == "__main__":
    main()
