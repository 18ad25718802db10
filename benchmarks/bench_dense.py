"""AlexNet's fully connected layers, batch 1, against every engine and against reading as much memory.

Each weight is read once from DRAM and multiplied once, so memory bandwidth is the limit. The probe that reads a large
buffer takes its turns beside the engines, and its best counts. ``bandwidth %`` is weight bytes in our best turn
over it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

from tvm_fastconv.measure import roofline

from . import bench_conv2d, options, results, runner

FEATURES = (9216, 4096, 4096, 1000)


def make_classifier() -> tuple:
    """The layers behind AlexNet's last pooling, and their input."""
    import torch
    from torch import nn

    from .networks import SEED

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        first, second, third = (nn.Linear(*pair) for pair in itertools.pairwise(FEATURES))
        model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        return model.eval(), (torch.randn(1, FEATURES[0]),)


def run(settings: runner.Settings, write: bool) -> Sequence[runner.Row]:
    """Measure, print and write ``dense[-t<threads>][-<isa>].json``."""
    weight_bytes = 4 * sum(a * b for a, b in itertools.pairwise(FEATURES))
    case = runner.Case(name="alexnet classifier", make=make_classifier, facts={"weight_bytes": weight_bytes})
    with roofline.read_probe(roofline.build_library(settings.isa), "DRAM") as probe:
        row = runner.measure(case, settings, {"read": probe.run})
    ours, best = row.engines[runner.OURS], row.engines[row.best_rival] if row.best_rival else None

    def share(engine: runner.Measured | None) -> float | None:
        milliseconds = engine.best_ms if engine else None
        return None if milliseconds is None else weight_bytes / (milliseconds * 1e6) / probe.best_rate

    shares = {"read_gb_s": probe.best_rate, "ours": share(ours), "best_rival": share(best)}
    columns = {
        "bandwidth %": [bench_conv2d.percent(shares["ours"])],
        "best rival %": [bench_conv2d.percent(shares["best_rival"])],
    }
    results.print_table(f"milliseconds, batch 1, {results.describe(settings)}", [row], columns)
    if write:
        results.write_results(
            options.results_name("dense", settings), settings, [row], {"shares_of_bandwidth": shares}
        )
    return [row]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    given = parser.parse_args()
    run(options.settings_of(given), not given.no_write)


if __name__ == "__main__":
    main()
