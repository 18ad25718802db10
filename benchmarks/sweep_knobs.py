"""How far default knobs are from the best ones: twelve layers, each made alone from its problem with all its knobs.

``python -m benchmarks.sweep_knobs`` measures, prints and writes ``results/knobs.json``: for the defaults of the table's
row, and of ``--machine FILE`` if one is given. First every tile takes turns, in its default division of the work; then
the best ten in every division. Measured on one core.
"""

from __future__ import annotations

import argparse
import itertools
from typing import TYPE_CHECKING, Any

from . import options, results

if TYPE_CHECKING:
    from tvm_fastconv.topi.knobs import KnobSet
    from tvm_fastconv.topi.machine import Machine
    from tvm_fastconv.topi.problem import Problem

FINALISTS, DIVISIONS = 10, 12
"""Tiles whose divisions are measured, and how many of those at most."""


def layers() -> dict[str, tuple[str, Problem]]:
    """Name → operator and problem."""
    from tvm_fastconv.topi.bitserial_conv2d import BitserialParams, BitserialProblem
    from tvm_fastconv.topi.chain import ChainProblem
    from tvm_fastconv.topi.conv2d import Conv2dParams, ConvProblem
    from tvm_fastconv.topi.depthwise_conv2d import DepthwiseProblem
    from tvm_fastconv.topi.lookup_conv2d import LookupProblem

    def plane(
        size: int, channels: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
    ) -> dict:
        conv = Conv2dParams(
            kernel=(kernel, kernel), out_channels=outputs, stride=(stride, stride), padding=(kernel // 2,) * 4,
            groups=groups,
        )  # fmt: skip
        return {"height": size, "width": size, "channels": channels, "conv": conv}

    def depthwise(size: int, channels: int, kernel: int = 3, stride: int = 1) -> DepthwiseProblem:
        return DepthwiseProblem(**plane(size, channels, channels, kernel, stride, groups=channels))

    def bits(size: int, channels: int) -> BitserialProblem:
        fields = plane(size, channels, channels)
        layer = BitserialParams(conv=fields["conv"], channels=channels)
        return BitserialProblem(height=size, width=size, layer=layer)

    def lookup(size: int, channels: int, outputs: int, kernel: int, nonzeros: int) -> LookupProblem:
        return LookupProblem(**plane(size, channels, outputs, kernel), nonzeros=nonzeros)

    def bottleneck(size: int, channels: int, middle: int) -> ChainProblem:
        stages = (
            ConvProblem(**plane(size, channels, middle, 1)), depthwise(size, middle),
            ConvProblem(**plane(size, middle, channels, 1)),
        )  # fmt: skip
        return ChainProblem(stages=stages)

    return {
        "dense 3x3, 56x56, 64 to 128": ("conv2d", ConvProblem(**plane(56, 64, 128, stride=2))),
        "dense 1x1, 14x14, 384 to 64": ("conv2d", ConvProblem(**plane(14, 384, 64, 1))),
        "dense 7x7, 224x224, 3 to 64": ("conv2d", ConvProblem(**plane(224, 3, 64, 7, 2))),
        "depthwise 3x3, 56x56, 144": ("depthwise_conv2d", depthwise(56, 144)),
        "depthwise 3x3, 28x28, 192, stride 2": ("depthwise_conv2d", depthwise(28, 192, stride=2)),
        "depthwise 5x5, 14x14, 480": ("depthwise_conv2d", depthwise(14, 480, 5)),
        "bits 3x3, 56x56, 64": ("bitserial_conv2d", bits(56, 64)),
        "bits 3x3, 14x14, 256": ("bitserial_conv2d", bits(14, 256)),
        "lookup 5x5, 27x27, 100 to 192, 3 %": ("lookup_conv2d", lookup(27, 100, 192, 5, 14400)),
        "lookup 3x3, 13x13, 200 to 384, 1 %": ("lookup_conv2d", lookup(13, 200, 384, 3, 6912)),
        "chain 1x1, 3x3, 1x1, 56x56, 24": ("chain", bottleneck(56, 24, 144)),
        "chain 1x1, 3x3, 1x1, 28x28, 32": ("chain", bottleneck(28, 32, 192)),
    }  # fmt: skip


def sweep(
    op: str, problem: Problem, machines: dict[str, Machine], turns: int, min_time: float
) -> dict[str, Any]:
    """Measure all knobs of one layer; returns the defaults, the best, and their times in milliseconds."""
    from tvm_fastconv.measure.timing import interleave
    from tvm_fastconv.topi.planner import Planner

    machine = next(iter(machines.values()))
    kind = type(Planner(machine).planned(op, problem).knobs)
    defaults = {name: Planner(row).planned(op, problem).knobs for name, row in machines.items()}
    tiles = list(dict.fromkeys([*defaults.values(), *getattr(kind, "tiles", kind.space)(problem, machine)]))
    times = interleave({knobs: _run(op, problem, knobs, machine) for knobs in tiles}, 2, min_time)
    best = sorted(times, key=lambda knobs: times[knobs].best)[:FINALISTS]
    divided = [
        knobs for knobs in kind.space(problem, machine) if any(_same_tile(knobs, tile) for tile in best)
    ]
    spaced = itertools.islice(divided, 0, None, max(1, len(divided) // (FINALISTS * DIVISIONS)))
    candidates = dict.fromkeys([*defaults.values(), *best, *spaced])
    times = interleave({knobs: _run(op, problem, knobs, machine) for knobs in candidates}, 2, min_time)
    finalists = dict.fromkeys(
        [*defaults.values(), *sorted(times, key=lambda knobs: times[knobs].best)[:FINALISTS]]
    )
    times = interleave({knobs: _run(op, problem, knobs, machine) for knobs in finalists}, turns, min_time)
    fastest = min(times, key=lambda knobs: times[knobs].median)
    return {
        "measured": len(tiles) + len(candidates),
        "best": fastest.to_json(),
        "best_ms": times[fastest].median * 1e3,
        "defaults": {
            name: {"knobs": knobs.to_json(), "ms": times[knobs].median * 1e3,
                   "ratio": times[fastest].median / times[knobs].median}
            for name, knobs in defaults.items()
        },
    }  # fmt: skip


def _same_tile(knobs: KnobSet, tile: KnobSet) -> bool:
    """Whether they differ in how the work is divided only."""
    divisions = ("strip", "chunks", "block", "rows")
    fields = (vars(each) for each in (knobs, tile))
    a, b = ({name: value for name, value in each.items() if name not in divisions} for each in fields)
    return a == b


def _run(op: str, problem: Problem, knobs: KnobSet, machine: Machine) -> Any:
    """A function of no arguments that runs the layer once."""
    import tvm

    from tvm_fastconv.autotune.check_answer import unset
    from tvm_fastconv.targets import resolve_target
    from tvm_fastconv.topi.build_operator import build, compiled

    made = build(op, problem, knobs, machine)
    library = compiled(made.func, resolve_target("native"))
    values = [tvm.runtime.tensor(array) for array in made.arrays]
    out = tvm.runtime.tensor(unset(made.result_shape, made.result_dtype))
    return lambda: library(*values, out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument(
        "--machine", help="a file of fastconv targets --measure, whose defaults are compared too"
    )
    parser.add_argument("--only", default="", help="layers whose names hold this; nothing is written then")
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.01)
    from rich.table import Table

    from tvm_fastconv.machine_files import target_and_machine

    machines = {"table": target_and_machine("native")[1]}
    if given.machine:
        machines["measured"] = target_and_machine("native", given.machine)[1]
    title = f"default knobs against the best of all, {results.describe(settings)}"
    table = Table(title=title, title_justify="left")
    for column in (
        "layer",
        "knobs measured",
        "best ms",
        *(f"best / default of the {name}" for name in machines),
    ):
        table.add_column(column, justify="right")
    rows = []
    chosen = {name: layer for name, layer in layers().items() if given.only in name}
    for name, (op, problem) in chosen.items():
        row = sweep(op, problem, machines, settings.repeats, settings.min_time)
        rows.append({"layer": name, "op": op, **row})
        ratios = [f"{default['ratio']:.2f}" for default in row["defaults"].values()]
        table.add_row(name, str(row["measured"]), f"{row['best_ms']:.3f}", *ratios)
    results.console().print(table)
    if not given.no_write and not given.only:
        results.write_results(options.results_name("knobs", settings), settings, [], {"layers": rows})


if __name__ == "__main__":
    main()
