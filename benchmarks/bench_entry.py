"""Calls without a virtual machine: from C, bound in Python, called in Python, beside the machine and ONNX Runtime.

``python -m benchmarks.bench_entry`` writes ``results/entry[-t<threads>].json``: microseconds of a call of the demo's
seven networks and of large ones, the entry's own cost, and the workspace beside the largest tensors that live at once.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import options, results, runner

DEMO = ("dense", "bitserial", "lookup", "spatial", "cp", "separable", "fixed")
LARGE = ("mobilenet_v2", "resnet18", "bireal18", "lcnn_accurate_alexnet")
KERNELS = 20

LOOP = """
#include <stddef.h>
typedef int (*run)(const void*, const void*, void*, size_t, const void*);
int many(run call, const void* in, const void* out, void* workspace, size_t bytes, long calls) {
  int status = 0;
  while (calls--) status |= call(in, out, workspace, bytes, 0);
  return status;
}
"""


class FromC:
    """A network's C library, called ``calls`` times in a loop of C."""

    def __init__(self, folder: Path, name: str, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        from tvm_fastconv.runtime.arrays import aligned_empty

        (folder / "loop.c").write_text(LOOP)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "loop.c", "-o", "loop.so"], cwd=folder, check=True)
        self._many = ctypes.CDLL(str(folder / "loop.so")).many
        library = ctypes.CDLL(str(folder / f"lib{name}.so"))
        size = getattr(library, f"{name}_workspace_bytes")
        size.restype = ctypes.c_size_t
        self.workspace_bytes = size(None)
        self._held = (inputs, outputs, aligned_empty((self.workspace_bytes + 64,), np.uint8), library)
        pointers = [
            (ctypes.c_void_p * len(group))(*(a.ctypes.data for a in group)) for group in (inputs, outputs)
        ]
        workspace = ctypes.c_void_p(self._held[2].ctypes.data)
        run = getattr(library, f"{name}_run")
        self._arguments = (run, *pointers, workspace, ctypes.c_size_t(self.workspace_bytes))

    def __call__(self, calls: int = 1) -> None:
        """Run the network so often."""
        assert self._many(*self._arguments, ctypes.c_long(calls)) == 0


@contextmanager
def faces(module: Any, inputs: tuple[Any, ...], threads: int) -> Iterator[dict[str, Any]]:
    """A network as C, bound, called and in the virtual machine; they must agree to the bit."""
    import tvm_fastconv as fc
    from tvm_fastconv.runtime.arrays import aligned_empty

    arrays = [aligned_empty(x.shape, x.numpy().dtype) for x in inputs]
    for array, x in zip(arrays, inputs, strict=True):
        array[...] = x.numpy()
    with tempfile.TemporaryDirectory() as folder:
        library = fc.compile_c_library(module, inputs, folder=folder, name="net")
        library.compiled.save(Path(folder, "net.so"))
        model = fc.load(Path(folder, "net.so"), threads=threads)
        answers = [aligned_empty(tuple(map(int, spec.shape)), spec.dtype) for spec in model.manifest.outputs]
        from_c = FromC(Path(folder), "net", arrays, answers)
        from_c()
        bound = model.bind(*arrays)
        bound()
        machine = model._machines(tuple(arrays))
        for one, two, three in zip(answers, bound.outputs, machine, strict=True):
            assert np.array_equal(one, two)
            assert np.array_equal(one, three)
        yield {
            "c": from_c,
            "bound": bound,
            "called": lambda: model(*arrays),
            "machine": lambda: model._machines(tuple(arrays)),
            "model": model,
        }


def measure(
    name: str, module: Any, inputs: tuple[Any, ...], settings: runner.Settings, rival: bool
) -> dict[str, Any]:
    """Microseconds of every face, in turns."""
    from tvm_fastconv.measure.rivals import build_rival
    from tvm_fastconv.measure.timing import interleave

    row: dict[str, Any] = {"network": name}
    with faces(module, inputs, settings.threads) as ours:
        calls: dict[str, Callable[[], object]] = {key: ours[key] for key in ("bound", "called", "machine")}
        batch = 1
        if settings.threads == 1:
            fastest = interleave({"c": ours["c"]}, 3, 0.01)["c"].best
            batch = max(1, int(1e-3 / fastest))
            calls["c"] = lambda: ours["c"](batch)
        if rival:
            engine = build_rival("onnxruntime", module, inputs, threads=settings.threads)
            row["onnxruntime_status"] = engine.status
            if engine.run is not None:
                calls["onnxruntime"] = engine.run
        timings = interleave(calls, settings.repeats, settings.min_time)
        row["workspace_bytes"] = ours["c"].workspace_bytes
        row["largest_two_bytes"] = largest_two(ours["model"])
    for key, timing in timings.items():
        row[f"{key}_us"] = round(1e6 * timing.median / (batch if key == "c" else 1), 3)
    return row


def largest_two(model: Any) -> int:
    """Bytes of the largest input and output of one call, together."""
    sizes = [0]

    def note(_function: Any, name: str, before: bool, _result: Any, *arguments: Any) -> None:
        if before and any(call.function == name for call in model.manifest.calls):
            own = [a for a in arguments if hasattr(a, "shape") and not _is_weight(model, a)]
            sizes.append(sum(int(np.prod(a.shape)) * np.dtype(str(a.dtype)).itemsize for a in own))

    model.run_instrumented(note, *model.reference()[0])
    return max(sizes)


def _is_weight(model: Any, tensor: Any) -> bool:
    return any(begin <= tensor.data_ptr() < end for begin, end in model._machines._weights)


def entry_nanoseconds() -> float:
    """Of a call of `KERNELS` kernels that do nothing, from C, in nanoseconds."""
    from tvm_fastconv.artifact.c_source import CSource
    from tvm_fastconv.measure.timing import interleave
    from tvm_fastconv.relay_passes.module.straight_line import KernelCall, Place, StraightLine
    from tvm_fastconv.report import TensorSpec
    from tvm_fastconv.runtime.arrays import aligned_empty

    specs = [TensorSpec(name=name, shape=(16,), dtype="float32") for name in ("x", "y")]
    ends = [
        Place("input", 0),
        *(Place("workspace", 64 * (i % 2)) for i in range(KERNELS - 1)),
        Place("output", 0),
    ]
    calls = tuple(KernelCall(f"nothing{i}", (ends[i], ends[i + 1])) for i in range(KERNELS))
    line = StraightLine(calls, (), 128)
    code = CSource("net", specs[:1], specs[1:], separate_weights=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "net.h").write_text(code.header("", ""))
        (folder / "net.c").write_text(code.source(line, (), "", 0, "net_kernel_"))
        empty = "".join(
            f"int net_kernel_nothing{i}(const void* x, const void* y) {{ return 0; }}\n"
            for i in range(KERNELS)
        )
        (folder / "kernels.c").write_text(empty)
        command = [
            "cc",
            "-O2",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "net.c",
            "kernels.c",
            "-o",
            "libnet.so",
        ]
        subprocess.run(command, cwd=folder, check=True)
        arrays = [aligned_empty((16,), np.float32) for _ in range(2)]
        from_c = FromC(folder, "net", arrays[:1], arrays[1:])
        return 1e9 * interleave({"c": lambda: from_c(100_000)}, 11, 0.02)["c"].median / 100_000


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--networks", type=options.names, default=None, help="comma-separated; default all")
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.05)
    from tvm_fastconv.demo import trained_model
    from tvm_fastconv.train.data import load_data

    from .lookup_networks import LOOKUP_NETWORKS, make_lookup_network
    from .networks import make_network

    rows = []
    digits = load_data("digits")
    for name in given.networks or (*DEMO, *LARGE):
        if name in DEMO:
            module = trained_model(name, digits)
            inputs = (torch.from_numpy(digits.test_images[:1]),)
        else:
            module, inputs = (make_lookup_network if name in LOOKUP_NETWORKS else make_network)(name)
        rows.append(measure(name, module.eval(), inputs, settings, rival=name in DEMO))
        print(rows[-1], flush=True)
    own = entry_nanoseconds()
    print(f"an entry of {KERNELS} kernels that do nothing: {own:.1f} ns")
    if not given.no_write:
        extra = {"networks": rows, "entry_ns": own, "entry_kernels": KERNELS}
        results.write_results(options.results_name("entry", settings), settings, [], extra)


if __name__ == "__main__":
    main()
