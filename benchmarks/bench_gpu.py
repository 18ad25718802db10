"""Everything on one NVIDIA GPU beside PyTorch in FP32: ``python -m benchmarks.bench_gpu`` checks and measures it all.

Where the GPU's machine has TVM and nvcc, this takes about six minutes, most of it compiling. What does not fit into
``--seconds`` is left out and named. Rivals run with cuDNN's benchmark on, in NCHW and in NHWC; the faster counts. TF32
is off for both, but on for both in what is named after it. Results: ``benchmarks/results/gpu_<name>.json``.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm
from torch import nn

import tvm_fastconv as fc
from tvm_fastconv.artifact.fatbin import loaded_on_gpu
from tvm_fastconv.ops.places import run, target_of
from tvm_fastconv.topi.bitserial_conv2d import BitserialParams, BitserialProblem
from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.conv2d import Conv2dParams
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.operators import Sample
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.xnor_gemm_gpu import PackedXnorGemmProblem

from .gpu_layers import BATCH, BINARY_LAYERS, LAYERS, NETWORKS, PRODUCTS, TF32_LAYERS, GpuLayer, LastChannels
from .gpu_timing import awaited, graph_of, in_turns
from .lookup_networks import make_lookup_network
from .networks import _torchvision_models, make_network

RESULTS = Path(__file__).with_name("results")
FORMATS = (torch.contiguous_format, torch.channels_last)

Row = dict[str, Any]
Measurement = tuple[str, Callable[[], Row]]


def measurements() -> Iterator[Measurement]:
    """Name and function of everything that is measured, the most asked for first."""
    yield "networks resnet18 1", lambda: network(*NETWORKS[0])
    for size, asked in PRODUCTS.items():
        yield f"xnor_gemm {size}", lambda size=size, asked=asked: product(size, asked)
    for channels, side in BINARY_LAYERS:
        yield f"binary {channels}@{side}", lambda channels=channels, side=side: binary_layer(channels, side)
    for layer in LAYERS:
        yield layer.name, lambda layer=layer: module_layer(layer)
    for layer in TF32_LAYERS:
        yield f"tf32 {layer.name}", lambda layer=layer: tf32_layer(layer)
    for batch in (1, BATCH):
        yield f"tf32 networks resnet18 {batch}", lambda batch=batch: tf32_network("resnet18", batch)
    for name, batch, rival, asked in NETWORKS[1:]:
        yield f"networks {name} {batch}", lambda *, a=(name, batch, rival, asked): network(*a)
    yield "xnor_gemm of long rows", long_product


def module_layer(layer: GpuLayer) -> Row:
    """A layer of floats, through the whole compiler."""
    module, x = layer.make()
    planes = x.permute(0, 2, 3, 1).contiguous()
    compiled = fc.compile(LastChannels(module).eval(), planes, target="cuda", verify=False)
    on_gpu, planes_there = x.cuda(), planes.cuda()
    with torch.no_grad():
        want = module.cuda()(on_gpu).permute(0, 2, 3, 1)
    largest = _difference(compiled(planes_there), want)
    pair = in_turns(lambda: compiled(planes_there), _eager(module, on_gpu))
    ops = [found.op for found in compiled.layers]
    return {"asked": layer.asked, "error": largest, "operators": ops, **asdict(pair)}


def tf32_layer(layer: GpuLayer) -> Row:
    """A dense layer in TF32, beside PyTorch in TF32 and ours in FP32."""
    module, x = layer.make()
    planes = x.permute(0, 2, 3, 1).contiguous()
    ours, exact = (
        fc.compile(LastChannels(module).eval(), planes, target="cuda", verify=False, allow_tf32=allowed)
        for allowed in (True, False)
    )
    on_gpu, planes_there = x.cuda(), planes.cuda()
    error = _difference(ours(planes_there), exact(planes_there))
    with _tf32_allowed():
        pair = in_turns(lambda: ours(planes_there), _eager(module, on_gpu))
    in_fp32 = in_turns(lambda: ours(planes_there), [lambda: exact(planes_there)])
    ops = [found.op for found in ours.layers]
    return {"error": error, "operators": ops, **asdict(pair), "ours_in_fp32": asdict(in_fp32)}


@torch.no_grad()
def tf32_network(name: str, batch: int) -> Row:
    """A whole network in TF32, verified, each call waited for, beside PyTorch in TF32."""
    module, (x,) = make_network(name, batch)
    compiled, on_gpu = fc.compile(module, x, target="cuda", allow_tf32=True), x.cuda()
    with _tf32_allowed():
        eager = _eager(module, on_gpu)
        times = {"eager": min(map(awaited, eager)), "graph": min(awaited(graph_of(call)) for call in eager)}
    ours = awaited(lambda: compiled(on_gpu))
    ratios = {key: value / ours for key, value in times.items()}
    return {"ours": ours, "rivals": times, "ratio": ratios, "verify": compiled.manifest.verify}


@contextmanager
def _tf32_allowed() -> Iterator[None]:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def binary_layer(channels: int, side: int) -> Row:
    """A binary convolution from packed bits to floats, beside a dense one of the same shape."""
    conv = Conv2dParams(kernel=(3, 3), out_channels=channels, padding=(1, 1, 1, 1))
    layer = BitserialParams(conv=conv, channels=channels)
    problem = BitserialProblem(batch=BATCH, height=side, width=side, layer=layer)
    ours, _ = _operator("bitserial_conv2d", problem)
    dense = nn.Conv2d(channels, channels, 3, 1, 1, bias=False).cuda()
    pair = in_turns(ours, _eager(dense, torch.randn(BATCH, channels, side, side, device="cuda")))
    small = BitserialProblem(batch=1, height=side, width=side, layer=layer)
    return {"asked": 3.0, "exact": _is_exact("bitserial_conv2d", small), **asdict(pair)}


def product(size: int, asked: float) -> Row:
    """A product of signs, packed before and with packing, beside cuBLAS; and its share of the peak of its bits."""
    a, b = (torch.randn(size, size, device="cuda") for _ in range(2))
    exact = torch.equal(fc.ops.xnor_gemm(a, b), _signs(a) @ _signs(b)) if size <= 4096 else None
    ours, _ = _operator("xnor_gemm_packed", PackedXnorGemmProblem(inner=size, columns=size))
    packed = in_turns(ours, [lambda: a @ b])
    whole = in_turns(lambda: fc.ops.xnor_gemm(a, b), [lambda: a @ b])
    return {
        "asked": asked,
        "exact": exact,
        **asdict(packed),
        "packing_included": asdict(whole),
        "bit_products_per_s": size**3 / (packed.ours * 1e-6),
    }


def long_product() -> Row:
    """Of 65536 bits a row, where the sums outweigh writing them."""
    ours, _ = _operator("xnor_gemm_packed", PackedXnorGemmProblem(inner=65536, columns=4096))
    pair = in_turns(ours, [ours])
    return {"ours": pair.ours, "bit_products_per_s": 4096**2 * 65536 / (pair.ours * 1e-6)}


@torch.no_grad()
def network(name: str, batch: int, rival: str, asked: float) -> Row:
    """A whole network, each call waited for, beside a dense one in eager mode and as a CUDA graph."""
    make = make_lookup_network if "lcnn" in name else make_network
    module, (x,) = make(name, batch)
    compiled, on_gpu = fc.compile(module, x, target="cuda", verify=batch == 1), x.cuda()
    dense = getattr(_torchvision_models(), rival)(weights=None).eval().cuda()
    eager = _eager(dense, on_gpu)
    ours = awaited(lambda: compiled(on_gpu))
    times = {"eager": min(map(awaited, eager)), "graph": min(awaited(graph_of(call)) for call in eager)}
    if name == "resnet18":
        faster = torch.compile(copy.deepcopy(dense), mode="reduce-overhead")
        times["torch.compile"] = awaited(lambda: faster(on_gpu))
    row = {"asked": asked, "ours": ours, "rivals": times, "verify": compiled.manifest.verify}
    return row | {"ratio": {key: value / ours for key, value in times.items()}, "rival": rival}


def _operator(name: str, problem: Any) -> tuple[Callable[[], None], Sample]:
    """One operator with the planner's knobs, ready to be called on random data."""
    target = target_of("cuda")
    machine = machine_of(target)
    made = build(name, problem, Planner(machine).planned(name, problem).knobs, machine)
    code = loaded_on_gpu(made.func, target)
    arrays = [_tensor(array) for array in made.arrays]
    out = torch.empty(made.result_shape, dtype=getattr(torch, made.result_dtype), device="cuda")
    return lambda: run(code, *arrays, out), made


def _is_exact(name: str, problem: Any) -> bool:
    """Whether one operator's result equals its slow reference."""
    target = target_of("cuda")
    machine = machine_of(target)
    made = build(name, problem, Planner(machine).planned(name, problem).knobs, machine)
    out = torch.empty(made.result_shape, dtype=getattr(torch, made.result_dtype), device="cuda")
    run(loaded_on_gpu(made.func, target), *map(_tensor, made.arrays), out)
    return bool(np.array_equal(out.cpu().numpy(), made.reference()))


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).cuda()


def _eager(module: nn.Module, x: torch.Tensor) -> list[Callable[[], Any]]:
    """The module in both layouts."""
    calls = []
    for layout in FORMATS:
        there = copy.deepcopy(module).cuda().to(memory_format=layout)
        data = x.to(memory_format=layout)
        calls.append(torch.no_grad()(lambda there=there, data=data: there(data)))
    return calls


def _difference(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max())


def _signs(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def conditions() -> Row:
    """What a reader needs to judge or repeat it."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name(0),
        "versions": {"torch": torch.__version__, "tvm": tvm.__version__, "cuda": torch.version.cuda},
    }


def main() -> None:
    """Run everything that fits into the time, and keep what was measured after each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=480, help="Begin nothing after so many.")
    parser.add_argument("--only", default="", help="A part of the names to measure.")
    parser.add_argument("--output", type=Path, help="The file to write, in place of the one in results.")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    name = torch.cuda.get_device_name(0).lower().replace("nvidia ", "").replace(" ", "_")
    path, begin = options.output or RESULTS / f"gpu_{name}.json", time.monotonic()
    found: Row = {"conditions": conditions(), "rows": {}, "left_out": []}
    for label, measure in measurements():
        if options.only not in label:
            continue
        if time.monotonic() - begin > options.seconds:
            found["left_out"].append(label)
        else:
            found["rows"][label] = _measured(measure)
            print(
                f"{time.monotonic() - begin:6.1f} s  {label}: {json.dumps(found['rows'][label])}", flush=True
            )
        path.write_text(json.dumps(found, indent=1) + "\n")


def _measured(measure: Callable[[], Row]) -> Row:
    """What a step found; its failure is a result as well."""
    try:
        return measure()
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return {"failed": f"{type(error).__name__}: {error}"[:400]}


if __name__ == "__main__":
    main()
