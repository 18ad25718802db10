"""What the planner expects of every GPU that it has a row for: ``python -m benchmarks.bench_gpu_estimates``.

The layers, products and networks are those of ``bench_gpu``, whose figures stand beside the estimates where a GPU was
measured. No GPU is needed; it takes a quarter of an hour, and ``--only NAME`` renews a part. Results:
``benchmarks/results/gpu_estimates.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from tvm_fastconv.gpu_targets import gpu_spec
from tvm_fastconv.machine_files import target_and_machine
from tvm_fastconv.prepare import prepare
from tvm_fastconv.relay_passes.module.collect_layers import recorded_calls
from tvm_fastconv.topi.bitserial_conv2d import BitserialParams, BitserialProblem
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.gpu import GPUS, Gpu
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.problem import Problem
from tvm_fastconv.topi.xnor_gemm_gpu import PackedXnorGemmProblem
from tvm_fastconv.tuned_network import TunedNetwork

from .gpu_layers import BATCH, BINARY_LAYERS, LAYERS, NETWORKS, PRODUCTS, LastChannels
from .lookup_networks import make_lookup_network
from .networks import make_network

RESULTS = Path(__file__).with_name("results")
PATH = RESULTS / "gpu_estimates.json"

Row = dict[str, float]


def questions() -> Iterator[tuple[str, Callable[[Gpu], float]]]:
    """Name, as ``bench_gpu`` has it, and what gives the microseconds that a GPU is expected to take."""
    for size in PRODUCTS:
        packed = PackedXnorGemmProblem(inner=size, columns=size)
        yield f"xnor_gemm {size}", lambda gpu, problem=packed: of_operator("xnor_gemm_packed", problem, gpu)
    for channels, side in BINARY_LAYERS:
        conv = Conv2dParams(kernel=(3, 3), out_channels=channels, padding=(1, 1, 1, 1))
        layer = BitserialParams(conv=conv, channels=channels)
        bits = BitserialProblem(batch=BATCH, height=side, width=side, layer=layer)
        yield f"binary {channels}@{side}", lambda gpu, p=bits: of_operator("bitserial_conv2d", p, gpu)
    for each in LAYERS:
        module, x = each.make()
        planes = x.permute(0, 2, 3, 1).contiguous()
        layer = LastChannels(module).eval()
        yield each.name, lambda gpu, m=layer, x=planes: of_network(m, x, gpu)
    for name, batch, _, _ in NETWORKS:
        make = make_lookup_network if "lcnn" in name else make_network
        network, (images,) = make(name, batch)
        yield f"networks {name} {batch}", lambda gpu, m=network, x=images: of_network(m, x, gpu)


def of_operator(op: str, problem: Problem, gpu: Gpu) -> float:
    """Microseconds of one operator."""
    return _microseconds(Planner(gpu).planned(op, problem).cycles, gpu)


def of_network(module: nn.Module, x: Any, gpu: Gpu) -> float:
    """Microseconds of all kernels of a network; those that are no operators of ours count as a launch."""
    target, _ = target_and_machine(f"cuda -gpu={gpu.name}")
    prepared = prepare(module, x, gpu_spec(target), gpu, None)
    planner = Planner(gpu)
    calls = TunedNetwork(prepared).dispatched({}).calls
    cycles = sum(n * planner.planned(task.op, task.problem).cycles for task, n in calls.items())
    others = len(recorded_calls(prepared.dispatched(planner))) - calls.total()
    return _microseconds(cycles + others * gpu.launch_cycles, gpu)


def _microseconds(cycles: float, gpu: Gpu) -> float:
    return float(f"{cycles / gpu.clock / 1e3:.4g}")


def measured(gpu: Gpu, folder: Path = RESULTS) -> Mapping[str, float]:
    """What ``bench_gpu`` has found on a GPU, by name."""
    path = folder / f"gpu_{gpu.name}.json"
    if not path.exists():
        return {}
    return {name: row["ours"] for name, row in json.loads(path.read_text())["rows"].items() if "ours" in row}


def main() -> None:
    """Write the estimates, and how far off those are that have a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="A part of the names; the other rows stay as they are.")
    only = parser.parse_args().only
    rows: dict[str, Row] = json.loads(PATH.read_text())["estimated"] if only else {}
    for name, expected in questions():
        if only not in name:
            continue
        rows[name] = {gpu.name: expected(gpu) for gpu in GPUS.values()}
        print(name, rows[name], flush=True)
    found = {gpu.name: measured(gpu) for gpu in GPUS.values()}
    beside = {
        name: {
            row: {"estimated": rows[row][name], "measured": figures[row]} for row in rows if row in figures
        }
        for name, figures in found.items()
        if figures
    }
    logs = {
        name: [math.log(pair["measured"] / pair["estimated"]) for pair in pairs.values()]
        for name, pairs in beside.items()
    }
    off = {
        name: {
            "measured_to_estimated": float(np.exp(statistics.mean(each))),
            "rms_of_logarithm": float(np.sqrt(np.mean(np.square(each)))),
        }
        for name, each in logs.items()
    }
    today = datetime.now(timezone.utc).date().isoformat()
    document = {
        "date": today,
        "unit": "microseconds",
        "estimated": rows,
        "beside_measurements": beside,
        "off_by": off,
    }
    PATH.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(off, indent=1))


if __name__ == "__main__":
    main()
