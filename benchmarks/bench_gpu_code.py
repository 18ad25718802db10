"""The machine code of GPU kernels, looked into without a GPU: ``python -m benchmarks.bench_gpu_code``.

Realistic layers and the small cases of the tests are compiled by nvcc for six architectures, each with the knobs that
the planner chooses for a GPU of that architecture. ``results/gpu_code.json`` holds registers, shared memory, spills,
occupancy and the instructions of the inner loop of every kernel: the table that ``tests/cuda/test_machine_code.py``
compares with. ``--only`` renews a part of it. Takes ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

import tvm

from tests.cuda.operators import ON_GPUS
from tvm_fastconv.artifact.cuda_compiler import Nvcc, find_nvcc

from .cuobjdump import find_cuobjdump
from .gpu_code import ROWS, Row, code_of, hottest_kernel, nvcc_version
from .gpu_code_layers import LAYERS
from .results import RESULTS, console

PATH = RESULTS / "gpu_code.json"
CASES = LAYERS | {f"case {name}": case for name, case in ON_GPUS.items()}
SHOWN = ("FFMA", "FFMA.reuse", "POPC", "BMMA", "LDS.128", "LDS.64", "LDS.32", "LDSM")


def written(document: Mapping[str, Row]) -> str:
    """The document with an architecture a line, so that differences can be read."""
    lines = []
    for name, arches in document["code"].items():
        rows = ",\n".join(f"   {json.dumps(arch)}: {json.dumps(row)}" for arch, row in arches.items())
        lines.append(f"  {json.dumps(name)}: {{\n{rows}\n  }}")
    head = json.dumps(document["conditions"])
    return f'{{\n "conditions": {head},\n "code": {{\n' + ",\n".join(lines) + "\n }\n}\n"


def print_table(code: Mapping[str, Mapping[str, Row]]) -> None:
    """One line for each layer and architecture: the kernel with the most arithmetic, and what is remarkable."""
    from rich.table import Table

    table = Table(title="Inner loops of GPU kernels", title_justify="left")
    columns = ("layer", "", "registers", "shared", "occupancy", "instructions", "FFMA", "mix", "remarks")
    for column in columns:
        table.add_column(column)
    for name, arch, row in _rows(code):
        main = hottest_kernel(row["kernels"])
        table.add_row(
            name,
            arch,
            str(main["registers"]),
            str(main["static_bytes"] + main["dynamic_bytes"]),
            f"{main['occupancy']:.0%}",
            str(main["instructions"]) + ("" if main["loop"] else ", no loop"),
            f"{main['ffma_share']:.0%}",
            ", ".join(f"{main['mix'][kind]} {kind}" for kind in SHOWN if kind in main["mix"]),
            "; ".join(row["remarks"]),
        )
    console().print(table)


def _rows(code: Mapping[str, Mapping[str, Row]]) -> Iterator[tuple[str, str, Row]]:
    for name, arches in code.items():
        for arch, row in arches.items():
            yield name, arch, row


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the names; the other rows stay as they are")
    parser.add_argument("--output", type=Path, default=PATH)
    given = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None or find_cuobjdump() is None:
        sys.exit("needs nvcc and cuobjdump: pip install tvm-fastconv[cuda,dev]")
    conditions = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "nvcc": nvcc_version(nvcc),
        "tvm": tvm.__version__,
    }
    before = json.loads(given.output.read_text()) if given.only else {"conditions": conditions, "code": {}}
    if before["conditions"]["nvcc"] != conditions["nvcc"]:
        sys.exit(
            f"{given.output} is of nvcc {before['conditions']['nvcc']}, this is {conditions['nvcc']}: renew it whole"
        )
    code = dict(before["code"])
    renewed = {}
    for name, (op, problem) in CASES.items():
        if given.only in name:
            renewed[name] = {}
            for gpu in ROWS:
                renewed[name] |= code_of(Nvcc(nvcc), op, problem, gpu)
            print(
                name,
                {arch: row["remarks"] for arch, row in renewed[name].items()},
                flush=True,
                file=sys.stderr,
            )
    code |= renewed
    given.output.write_text(
        written({"conditions": conditions, "code": {n: code[n] for n in CASES if n in code}})
    )
    print_table(renewed)


if __name__ == "__main__":
    main()
