"""Grouped convolutions, one layer at a time and as a network, against every engine.

``kernel %`` is the layer alone, as `CompiledModel.profile` reports it, over the core's multiply-add peak, which is
sampled in turns beside the engines. Operations are those of the groups: zeros that fill vectors up do not count.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tvm_fastconv.measure import roofline

from . import options, results, runner
from .bench_conv2d import ENGINES, MIN_TIME, percent
from .grouped_networks import CONV, LAYERS, NETWORKS, GroupedLayer, GroupedNetwork


def run(
    settings: runner.Settings, cases: Sequence[GroupedLayer | GroupedNetwork], write: bool
) -> list[runner.Row]:
    """Measure, print and write ``grouped[-t<threads>][-<isa>].json``."""
    peak = roofline.fma_probe(roofline.build_library(settings.isa))
    rows, shares = [], []
    for case in cases:
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        facts = {"macs": case.macs} if isinstance(case, GroupedLayer) else {}
        made = runner.Case(name=case.name, make=case.make, facts=facts)
        rows.append(runner.measure(made, settings, {"peak": peak.run}))
        shares.append(_share(case, rows[-1], peak.best_rate * settings.threads))
    columns = {"kernel %": [percent(share) for share in shares]}
    results.print_table(f"milliseconds, batch 1, {results.describe(settings)}", rows, columns)
    if write:
        name = options.results_name("grouped", settings)
        results.write_results(name, settings, rows, {"kernel_shares_of_peak": shares})
    return rows


def _share(case: GroupedLayer | GroupedNetwork, row: runner.Row, peak_gflops: float) -> float | None:
    ours = row.engines.get(runner.OURS)
    milliseconds = ours.layers_ms.get(CONV) if ours else None
    if milliseconds is None or not isinstance(case, GroupedLayer):
        return None
    return 2 * case.macs / (milliseconds * 1e6) / peak_gflops


def main() -> None:
    """Command line."""
    run(*options.parse_layers(__doc__, (*LAYERS, *NETWORKS), MIN_TIME, ENGINES))


if __name__ == "__main__":
    main()
