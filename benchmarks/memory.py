"""Resident memory of a loaded network, and the times of import, compilation, loading and the first run.

Each figure comes from a process of its own. Memory is what loading and running a network adds to a process that has
already loaded and run a trivial one, which is the runtime alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import options, results, runner

CHECKOUT = Path(__file__).parents[1]
MEGABYTE = 1e6

_IMPORT = """
import json, time
start = time.perf_counter()
import tvm_fastconv
print(json.dumps(time.perf_counter() - start))
"""

_COMPILE = """
import json, sys, time
from benchmarks.networks import make_network
module, inputs = make_network(sys.argv[1])
import tvm_fastconv as fc
start = time.perf_counter()
compiled = fc.compile(module, inputs)
seconds = time.perf_counter() - start
compiled.save(sys.argv[2])
print(json.dumps({"seconds": seconds, "layer_weights": sum(layer.weight_bytes for layer in compiled.layers)}))
"""

_COMPILE_TRIVIAL = """
import sys, torch
import tvm_fastconv as fc
fc.compile(torch.nn.ReLU(), (torch.zeros(1, 1, 1, 1),)).save(sys.argv[1])
"""

_LOAD = """
import json, re, sys, time
import numpy as np
import tvm_fastconv as fc

def resident():
    status = open("/proc/self/status").read()
    return {kind: int(re.search(f"Rss{kind}:\\\\s+(\\\\d+)", status)[1]) * 1024 for kind in ("Anon", "File")}

def load_and_run(path, shape):
    model = fc.load(path, threads=1)
    loaded = time.perf_counter()
    for _ in range(3):
        model(np.zeros(shape, np.float32))
    return model, loaded

trivial, _ = load_and_run(sys.argv[1], (1, 1, 1, 1))
before, start = resident(), time.perf_counter()
model, loaded = load_and_run(sys.argv[2], json.loads(sys.argv[3]))
after = resident()
print(json.dumps({"anonymous": after["Anon"] - before["Anon"], "mapped": after["File"] - before["File"],
                  "load_seconds": loaded - start}))
"""


def measure(network: str) -> dict[str, Any]:
    """Bytes and seconds of one network; ``weights`` are its parameters, ``activations`` its two largest at once."""
    from .networks import make_network

    module, inputs = make_network(network)
    with tempfile.TemporaryDirectory() as folder:
        trivial, model = str(Path(folder, "trivial.so")), str(Path(folder, "model.so"))
        _run(_COMPILE_TRIVIAL, trivial)
        compiled = _run(_COMPILE, network, model)
        loaded = _run(_LOAD, trivial, model, json.dumps(list(inputs[0].shape)))
        file_bytes = Path(model).stat().st_size
    return {
        "network": network,
        "import_seconds": _run(_IMPORT),
        "compile_seconds": compiled["seconds"],
        "load_seconds": loaded["load_seconds"],
        "resident": loaded["anonymous"] + loaded["mapped"],
        "anonymous": loaded["anonymous"],
        "weights": sum(p.numel() * p.element_size() for p in module.parameters()),
        "packed_weights": compiled["layer_weights"],
        "activations": largest_activations(module, inputs),
        "file": file_bytes,
    }


def largest_activations(module: Any, inputs: tuple[Any, ...]) -> int:
    """Bytes of input and output of the layer where these are largest together: what must be held at one time."""
    import torch

    sizes = [0]

    def note(_: Any, arguments: tuple[Any, ...], output: Any) -> None:
        tensors = [x for x in (*arguments, output) if isinstance(x, torch.Tensor)]
        sizes.append(sum(x.numel() * x.element_size() for x in tensors))

    hooks = [layer.register_forward_hook(note) for layer in module.modules() if not list(layer.children())]
    with torch.inference_mode():
        module(*inputs)
    for hook in hooks:
        hook.remove()
    return max(sizes)


def _run(program: str, *arguments: str) -> Any:
    """Run a program in a fresh interpreter; its last line of output is JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, cwd=CHECKOUT
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None


def print_figures(figures: Sequence[dict[str, Any]]) -> None:
    """Megabytes and seconds as a table; ``above`` is what lies beyond packed weights and activations.

    Packed are the weights as the file holds them: Winograd keeps 16 or 36 values of a 3×3 kernel's nine.
    """
    from rich.table import Table

    table = Table(title="memory of a loaded network, MB, and seconds", title_justify="left")
    columns = ("resident", "of it private", "weights", "packed weights", "activations", "above", "file")
    for column in ("network", *columns):
        table.add_column(column, justify="left" if column == "network" else "right")
    for column in ("import s", "compile s", "load s"):
        table.add_column(column, justify="right")
    for one in figures:
        names = ("resident", "anonymous", "weights", "packed_weights", "activations")
        sizes = [*(one[name] for name in names), one["resident"] - one["packed_weights"] - one["activations"]]
        sizes.append(one["file"])
        seconds = [one[f"{name}_seconds"] for name in ("import", "compile", "load")]
        table.add_row(one["network"], *(f"{x / MEGABYTE:.1f}" for x in sizes), *(f"{x:.2f}" for x in seconds))
    results.console().print(table)


def run(settings: runner.Settings, networks: Sequence[str], write: bool) -> list[dict[str, Any]]:
    """Measure, print and write ``memory.json``."""
    from .networks import present

    figures = []
    for name in present(networks):
        print(f"memory of {name} ...", file=sys.stderr, flush=True)
        figures.append(measure(name))
    print_figures(figures)
    if write:
        results.write_results("memory", settings, [], {"memory": figures})
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--networks", type=options.names, default=("resnet18",))
    given = parser.parse_args()
    run(options.settings_of(given), given.networks, not given.no_write)


if __name__ == "__main__":
    main()
