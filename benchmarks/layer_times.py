"""Where we lose: our time for each layer beside OpenVINO's: ``python -m benchmarks.layer_times resnet18``.

OpenVINO names its operators after PyTorch's modules (batch norm is folded beforehand, or its convolutions lose their
names) and fuses what follows a layer into it, as we do. What has no partner, such as pooling or OpenVINO's own
reorders, stands below by itself.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Mapping
from typing import Any

from . import options, results, runner

RUNS = 20
_MODULE = re.compile(r"__module\.([\w.]+?)/")


def openvino_layers(module: Any, inputs: tuple[Any, ...], threads: int) -> dict[str, tuple[str, float]]:
    """Run OpenVINO `RUNS` times: module path, or its own name for the rest, to (implementation, median milliseconds).

    Operators of one module are added up.
    """
    from torch.fx.experimental.optimization import fuse

    from tvm_fastconv.rivals import openvino_request

    request = openvino_request(fuse(module), inputs, threads, PERF_COUNT=True)
    runs = []
    for _ in range(RUNS):
        request.infer()
        runs.append([node for node in request.profiling_info if node.real_time.total_seconds() > 0])
    layers: dict[str, tuple[str, float]] = {}
    for nodes in zip(*runs, strict=True):
        found = _MODULE.match(nodes[0].node_name)
        name = found.group(1) if found else f"{nodes[0].node_type} {nodes[0].node_name}"
        milliseconds = statistics.median(node.real_time.total_seconds() for node in nodes) * 1e3
        before = layers.get(name, ("", 0.0))[1]
        layers[name] = (nodes[0].exec_type, before + milliseconds)
    return layers


def pair(
    ours: Mapping[str, float], theirs: Mapping[str, tuple[str, float]]
) -> list[tuple[str, float | None, float | None, str]]:
    """Rows (layer, our milliseconds, theirs, their implementation): our layers in order, then what only they have."""
    rows: list[tuple[str, float | None, float | None, str]] = []
    for name, milliseconds in ours.items():
        implementation, other = theirs.get(name, ("", None))
        rows.append((name, milliseconds, other, implementation))
    rows += [(name, None, ms, kind) for name, (kind, ms) in theirs.items() if name not in ours]
    return rows


def print_layers(title: str, rows: list[tuple[str, float | None, float | None, str]]) -> None:
    """Table with their time over ours, and the totals."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("layer", "ours ms", "OpenVINO ms", "ratio", "OpenVINO runs"):
        table.add_column(column, justify="left" if column in ("layer", "OpenVINO runs") else "right")
    for name, ours, theirs, implementation in rows:
        ratio = f"{theirs / ours:.2f}" if ours and theirs else ""
        table.add_row(name, _milliseconds(ours), _milliseconds(theirs), ratio, implementation)
    totals = [sum(row[column] or 0.0 for row in rows) for column in (1, 2)]  # type: ignore[misc]
    table.add_section()
    table.add_row("sum", *map(_milliseconds, totals), f"{totals[1] / totals[0]:.2f}" if totals[0] else "")
    results.console().print(table)


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("network")
    given = parser.parse_args()
    settings = options.settings_of(given)
    from .networks import NETWORKS, make_network

    if given.network not in NETWORKS:
        sys.exit(f"unknown network {given.network!r}: known are {', '.join(NETWORKS)}")
    module, inputs = make_network(given.network)
    theirs = openvino_layers(module, inputs, settings.threads)
    ours = runner.Ours(module, inputs, settings).layers_ms() if runner.OURS in settings.engines else {}
    print_layers(f"{given.network}, {results.describe(settings)}", pair(ours, theirs))


if __name__ == "__main__":
    main()
