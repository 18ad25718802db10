"""Chains of separable convolutions: ours, the same chain on every engine, and on those the dense convolution too.

All take turns in one run. ``chain`` and ``dense`` are ratios to the best engine of others on either form; the second
stands only where the chain has no activation inside, so that both compute the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import options, results, runner
from .bench_conv2d import ENGINES, MIN_TIME
from .separable_layers import LAYERS, ChainLayer

DENSE = "dense"
"""Behind an engine's name: it runs the dense convolution."""


def ratios(row: runner.Row) -> dict[str, tuple[str, float] | None]:
    """The best engine of others on the chain, and on the dense form, with its median time over ours."""
    times = {name: m.median_ms for name, m in row.engines.items() if m.median_ms is not None}
    ours = times.pop(runner.OURS, None)
    found: dict[str, tuple[str, float] | None] = {"chain": None, DENSE: None}
    for key in found if ours else ():
        names = [name for name in times if name.endswith(DENSE) == (key == DENSE)]
        best = min(names, key=times.__getitem__, default=None)
        found[key] = (best, times[best] / ours) if best is not None else None
    return found


def run(settings: runner.Settings, layers: Sequence[ChainLayer], write: bool) -> list[runner.Row]:
    """Measure, print and write ``separable[-t<threads>][-<isa>].json``."""
    rows = []
    for layer in layers:
        print(f"{layer.name} ...", file=sys.stderr, flush=True)
        forms = {DENSE: layer.make_dense} if layer.linear else {}
        case = runner.Case(name=layer.name, make=layer.make, forms=forms)
        rows.append(runner.measure(case, settings))
    found = [ratios(row) for row in rows]
    columns = {
        f"/ {key}": ["-" if each[key] is None else f"{each[key][1]:.2f}" for each in found]
        for key in ("chain", DENSE)
    }
    results.print_table(f"milliseconds, batch 1, {results.describe(settings)}", rows, columns)
    if write:
        name = options.results_name("separable", settings)
        results.write_results(name, settings, rows, {"ratios": found})
    return rows


def main() -> None:
    """Command line."""
    run(*options.parse_layers(__doc__, LAYERS, MIN_TIME, ENGINES))


if __name__ == "__main__":
    main()
