"""Where we lose: our time for each layer beside OpenVINO's: ``python -m benchmarks.layer_times resnet18``.

OpenVINO names its operators after PyTorch's modules (batch norm is folded beforehand, or its convolutions lose their
names) and fuses what follows a layer into it, as we do. What has no partner, such as pooling or OpenVINO's own
reorders, stands below by itself.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import options, results, runner

TURNS = 7  # of each engine; the best counts, since a busy machine only ever slows one down
RUNS = 3  # in each turn, of which the fastest counts, as in `CompiledModel.profile`
_MODULE = re.compile(r"__module\.([\w.]+?)/")

Times = dict[str, float]
"""Milliseconds by layer."""


class OpenVinoLayers:
    """A network in OpenVINO, measured layer by layer.

    Calling it gives the fastest of `RUNS` runs: milliseconds by module path, or by OpenVINO's own name where there is
    none.
    ``implementations`` says what ran for each of these.
    """

    def __init__(self, module: Any, inputs: tuple[Any, ...], threads: int) -> None:
        from torch.fx.experimental.optimization import fuse

        from tvm_fastconv.measure.rivals import openvino_request

        self._request = openvino_request(fuse(module), inputs, threads, PERF_COUNT=True)
        self.implementations: dict[str, str] = {}

    def __call__(self) -> Times:
        """Milliseconds of one turn."""
        runs = [self._run() for _ in range(RUNS)]
        return min(runs, key=lambda times: sum(times.values()))

    def _run(self) -> Times:
        self._request.infer()
        times: Times = {}
        for node in self._request.profiling_info:
            if node.status != node.Status.EXECUTED:
                continue
            found = _MODULE.match(node.node_name)
            name = found.group(1) if found else f"{node.node_type} {node.node_name}"
            times[name] = times.get(name, 0.0) + node.real_time.total_seconds() * 1e3
            self.implementations.setdefault(name, node.exec_type)
        return times


def best_turns(engines: Sequence[Callable[[], Times]]) -> list[Times]:
    """Let the engines take turns; of each layer, keep its best."""
    turns = [[engine() for engine in engines] for _ in range(TURNS)]
    return [
        {name: min(turn[i][name] for turn in turns) for name in first} for i, first in enumerate(turns[0])
    ]


def pair(ours: Times, theirs: Times) -> list[tuple[str, float | None, float | None]]:
    """Rows (layer, our milliseconds, theirs): our layers in order, then what only they have."""
    names = [*ours, *(name for name in theirs if name not in ours)]
    return [(name, ours.get(name), theirs.get(name)) for name in names]


def print_layers(title: str, ours: Times, theirs: Times, implementations: Mapping[str, str]) -> None:
    """Table with their time over ours, and the totals."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("layer", "ours ms", "OpenVINO ms", "ratio", "OpenVINO runs"):
        table.add_column(column, justify="left" if column in ("layer", "OpenVINO runs") else "right")
    for name, mine, other in pair(ours, theirs):
        table.add_row(name, *_cells(mine, other), implementations.get(name, ""))
    table.add_section()
    table.add_row("sum", *_cells(sum(ours.values()), sum(theirs.values())))
    results.console().print(table)


def _cells(ours: float | None, theirs: float | None) -> tuple[str, str, str]:
    ratio = f"{theirs / ours:.2f}" if ours and theirs else ""
    return _milliseconds(ours), _milliseconds(theirs), ratio


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
    compiled = runner.Ours(module, inputs, settings)
    openvino = OpenVinoLayers(module, inputs, settings.threads)
    ours, theirs = best_turns([lambda: compiled.layers_ms(RUNS), openvino])
    title = f"{given.network}, {results.describe(settings)}"
    print_layers(title, ours, theirs, openvino.implementations)


if __name__ == "__main__":
    main()
