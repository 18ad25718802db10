"""What tuning brings: whole networks with records against the same without, in turns, in one run.

``python -m benchmarks.bench_tune --seconds 120`` tunes each network for so long, into a file of records of its own
beside the results, and writes ``results/tune[-t<threads>].json`` after each. The networks are other people's, of
``timm``, and those of `networks`; what is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import options, results
from .lookup_networks import LOOKUP_NETWORKS, make_lookup_network
from .networks import ALL_NETWORKS, SEED, _torchvision_models, make_network

FOREIGN = (
    "efficientnet_lite0", "rexnet_100", "ghostnet_100", "mobileone_s0", "repvgg_a0", "hrnet_w18_small",
    "semnasnet_100", "dla34", "ese_vovnet19b_dw", "regnetx_002",
)  # fmt: skip
"""Of ``timm``, at their own sizes."""

OURS = ("bireal18", "resnet18", "mobilenet_v2", "squeezenet1_1", "densenet121", "lcnn_accurate_alexnet")
KNOWN = (*FOREIGN, *ALL_NETWORKS, *LOOKUP_NETWORKS)

Made = tuple[nn.Module, tuple[torch.Tensor, ...]]


def makers(names: Sequence[str]) -> dict[str, Callable[[], Made]]:
    """Name → what makes the network and its input, in a process that can."""
    with contextlib.suppress(Exception):
        _torchvision_models()  # timm imports it; see there
    try:
        import timm
    except ImportError as error:
        print(f"left out, since {error}: {', '.join(set(names) & set(FOREIGN))}", file=sys.stderr)
        names = [name for name in names if name not in FOREIGN]

    def foreign(name: str) -> Made:
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            module = timm.create_model(name).eval()
            return module, (torch.randn(1, *module.default_cfg["input_size"]),)

    def made(name: str) -> Made:
        if name in LOOKUP_NETWORKS:
            return make_lookup_network(name)
        return foreign(name) if name in FOREIGN else make_network(name)

    return {name: functools.partial(made, name) for name in names}


def measure(made: Made, records: Path, seconds: float, threads: int) -> dict[str, Any]:
    """Tune one network and compare it."""
    import tvm_fastconv as fc

    module, inputs = made
    start = time.monotonic()
    found = fc.tune(module, inputs, records=records, seconds=seconds, threads=threads)
    withdrawn = {line.task for line in found.withdrawn}
    kept = [verdict for verdict in found.verdicts if verdict.ratio != 1 and verdict.task not in withdrawn]
    return {
        "ratio": None if found.network is None else vars(found.network),
        "withdrawn": len(withdrawn),
        "trials": found.trials,
        "problems": len(found.verdicts),
        "faster": {f"{v.op} {v.problem}": {"ratio": v.ratio, "knobs": json.loads(v.knobs)} for v in kept},
        "seconds": round(time.monotonic() - start, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="to search, for each network (default 600)"
    )
    parser.add_argument("--networks", default=",".join(FOREIGN + OURS), help="names, with commas")
    parser.add_argument("--records", help="a folder to keep the records in, and to go on from")
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.05)
    asked = given.networks.split(",")
    if unknown := [name for name in asked if name not in KNOWN]:
        parser.error(f"unknown networks {', '.join(unknown)}; known: {', '.join(KNOWN)}")
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        folder = given.records or stack.enter_context(tempfile.TemporaryDirectory())
        os.makedirs(folder, exist_ok=True)
        for name, make in makers(asked).items():
            row = measure(make(), Path(folder, f"{name}.jsonl"), given.seconds, settings.threads)
            rows.append({"network": name, **row})
            print(
                f"{name}: {_ratio(row['ratio'])} times faster, {row['trials']} trials, {row['seconds']} s",
                flush=True,
            )
            if not given.no_write:
                extra = {"networks": rows, "mean": _mean(rows), "search_seconds": given.seconds}
                results.write_results(options.results_name("tune", settings), settings, [], extra)
    print(f"geometric mean {_mean(rows):.3f}")


def _ratio(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return "not compared"
    return f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"


def _mean(rows: Sequence[dict[str, Any]]) -> float:
    """Geometric mean of the ratios; where all was withdrawn, the network is as fast as before."""
    found = [row["ratio"] for row in rows if row["ratio"]]
    ratios = [ratio["median"] if ratio["high"] >= 1 else 1.0 for ratio in found]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan


if __name__ == "__main__":
    main()
