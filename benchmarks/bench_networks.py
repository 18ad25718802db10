"""Whole networks against every engine: ``python -m benchmarks.bench_networks --networks resnet18 --threads 1``."""

from __future__ import annotations

import argparse
import functools
import sys

from . import options, results, runner


def run(settings: runner.Settings, networks: tuple[str, ...], batch: int, write: bool) -> list[runner.Row]:
    """Measure, print and write ``[binary_|lookup_]networks[-b<batch>][-t<threads>][-<isa>].json``."""
    from .lookup_networks import LOOKUP_NETWORKS
    from .networks import BINARY_NETWORKS, make_network, present

    rows = []
    for name in present(networks):
        print(f"{name} ...", file=sys.stderr, flush=True)
        case = runner.Case(
            name=name, make=functools.partial(make_network, name, batch), facts={"batch": batch}
        )
        if name in LOOKUP_NETWORKS:
            case = lookup_case(name, batch)
        rows.append(runner.measure(case, settings))
    results.print_table(f"milliseconds, batch {batch}, {results.describe(settings)}", rows)
    if write:
        kinds = {"binary_": BINARY_NETWORKS, "lookup_": LOOKUP_NETWORKS}
        kind = next((kind for kind, known in kinds.items() if set(networks) <= set(known)), "")
        results.write_results(options.results_name(f"{kind}networks", settings, batch), settings, rows)
    return rows


def lookup_case(name: str, batch: int) -> runner.Case:
    """One of `LOOKUP_NETWORKS` against the dense network it takes the place of."""
    from .lookup_networks import LOOKUP_NETWORKS, make_lookup_network
    from .networks import make_network

    dense, _ = LOOKUP_NETWORKS[name]
    return runner.Case(
        name=name,
        make=functools.partial(make_lookup_network, name, batch),
        make_dense=functools.partial(make_network, dense, batch),
        facts={"batch": batch, "rivals_run": dense},
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--networks", type=options.names, default=None, help="comma-separated; default all")
    parser.add_argument("--batch", type=int, default=1)
    given = parser.parse_args()
    settings = options.settings_of(given)
    from .lookup_networks import LOOKUP_NETWORKS
    from .networks import ALL_NETWORKS, NETWORKS

    networks, known = given.networks or tuple(NETWORKS), (*ALL_NETWORKS, *LOOKUP_NETWORKS)
    if unknown := set(networks) - set(known):
        sys.exit(f"unknown networks {', '.join(sorted(unknown))}: known are {', '.join(known)}")
    run(settings, networks, given.batch, not given.no_write)


if __name__ == "__main__":
    main()
