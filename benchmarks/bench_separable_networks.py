"""Networks with separable convolutions against every engine, which runs the same form of the network as ours.

Below the table stands how many times as fast as the plain All-CNN-C the network designed for separable convolutions
is in each of its forms, ours both, in turns.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict

from . import options, results, runner
from .separable_networks import FORMS, SEPARABLE_NETWORKS, SeparableNetwork

PLAIN = SeparableNetwork("all_cnn_c", "std")
DESIGNED = tuple(SeparableNetwork("adequately_designed", form) for form in FORMS)


def speedups(settings: runner.Settings, networks: Sequence[SeparableNetwork]) -> list[runner.Row]:
    """Time ours of `PLAIN`, as the rival, and of those of `DESIGNED` that are among ``networks``, if all are there."""
    chosen = [network for network in DESIGNED if network in networks]
    if PLAIN not in networks or runner.OURS not in settings.engines or not chosen:
        return []
    from tvm_fastconv.measure.timing import interleave

    models = {network.name: runner.Ours(*network.make(), settings) for network in (PLAIN, *chosen)}
    timings = interleave(models, settings.repeats, settings.min_time)
    measured = {
        name: runner.Measured(
            status="ok", median_ms=timing.median * 1e3, samples_ms=tuple(t * 1e3 for t in timing.samples)
        )
        for name, timing in timings.items()
    }
    return [
        runner.compare(
            runner.Case(name=network.name, make=network.make),
            {runner.OURS: measured[network.name], PLAIN.name: measured[PLAIN.name]},
        )
        for network in chosen
    ]


def run(settings: runner.Settings, networks: Sequence[SeparableNetwork], write: bool) -> list[runner.Row]:
    """Measure, print and write ``separable_networks[-t<threads>][-<isa>].json``."""
    rows = []
    for network in networks:
        print(f"{network.name} ...", file=sys.stderr, flush=True)
        facts = {"parameters": sum(p.numel() for p in network.build().parameters())}
        rows.append(runner.measure(runner.Case(name=network.name, make=network.make, facts=facts), settings))
    results.print_table(f"milliseconds, batch 1, {results.describe(settings)}", rows)
    designed = speedups(settings, networks)
    if designed:
        results.print_table(f"ours, in turns with {PLAIN.name}", designed)
    if write:
        name = options.results_name("separable_networks", settings)
        extra = {f"adequately_designed over {PLAIN.name}": [asdict(row) for row in designed]}
        results.write_results(name, settings, rows, extra)
    return rows


def main() -> None:
    """Command line."""
    run(*options.parse_layers(__doc__, SEPARABLE_NETWORKS))


if __name__ == "__main__":
    main()
