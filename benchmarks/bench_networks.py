"""Whole networks against every engine: ``python -m benchmarks.bench_networks --networks resnet18 --threads 1``."""

from __future__ import annotations

import argparse
import functools
import sys

from . import options, results, runner


def run(settings: runner.Settings, networks: tuple[str, ...], batch: int, write: bool) -> list[runner.Row]:
    """Measure, print and write ``[binary_]networks[-b<batch>][-t<threads>][-<isa>].json``."""
    from .networks import BINARY_NETWORKS, make_network, present

    rows = []
    for name in present(networks):
        print(f"{name} ...", file=sys.stderr, flush=True)
        make = functools.partial(make_network, name, batch)
        rows.append(runner.measure(runner.Case(name=name, make=make, facts={"batch": batch}), settings))
    results.print_table(f"milliseconds, batch {batch}, {results.describe(settings)}", rows)
    if write:
        stem = "binary_networks" if set(networks) <= set(BINARY_NETWORKS) else "networks"
        results.write_results(options.results_name(stem, settings, batch), settings, rows)
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--networks", type=options.names, default=None, help="comma-separated; default all")
    parser.add_argument("--batch", type=int, default=1)
    given = parser.parse_args()
    settings = options.settings_of(given)
    from .networks import ALL_NETWORKS, NETWORKS

    networks = given.networks or tuple(NETWORKS)
    unknown = set(networks) - set(ALL_NETWORKS)
    if unknown:
        sys.exit(f"unknown networks {', '.join(sorted(unknown))}: known are {', '.join(ALL_NETWORKS)}")
    run(settings, networks, given.batch, not given.no_write)


if __name__ == "__main__":
    main()
