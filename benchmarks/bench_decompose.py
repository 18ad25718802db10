"""How long the decompositions that search take on a large layer: seconds, and for CP the ratio to TensorLy's.

python -m benchmarks.bench_decompose [--shape 256,256,3,3]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import options, results, runner

SHAPE = (256, 256, 3, 3)
RIVAL = "CP by TensorLy"


def measure(shape: tuple[int, int, int, int]) -> dict[str, float]:
    """Seconds of each decomposition of one random weight, with an eighth of its channels as terms or atoms."""
    import tensorly
    from tensorly.decomposition import parafac

    from tvm_fastconv.decompose.cp import cp
    from tvm_fastconv.decompose.lookup import lookup
    from tvm_fastconv.decompose.tucker import tucker

    weight = np.random.default_rng(0).standard_normal(shape, np.float32)
    rank = max(1, shape[1] // 8)
    tensor = tensorly.tensor(weight.astype(np.float64))
    ways: dict[str, Callable[[], Any]] = {
        "CP": lambda: cp(weight, rank=rank),
        RIVAL: lambda: parafac(tensor, rank, n_iter_max=60, init="svd", tol=0),
        "Tucker": lambda: tucker(weight, ranks=(rank, rank)),
        "lookup": lambda: lookup(weight, dictionary_size=rank, density=0.05),
    }
    return {way: _seconds(run) for way, run in ways.items()}


def _seconds(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def run(settings: runner.Settings, shape: Sequence[int], write: bool) -> dict[str, float]:
    """Measure, print and write ``decompose.json``."""
    seconds = measure((shape[0], shape[1], shape[2], shape[3]))
    out = results.console()
    for way, each in seconds.items():
        out.print(f"{way:>15}: {each:7.2f} s")
    out.print(f"{RIVAL} takes {seconds[RIVAL] / seconds['CP']:.2f} times as long as ours")
    if write:
        results.write_results("decompose", settings, [], {"shape": list(shape), "seconds": seconds})
    return seconds


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    parser.add_argument("--shape", type=lambda text: [int(n) for n in text.split(",")], default=SHAPE)
    given = parser.parse_args()
    run(options.settings_of(given), given.shape, not given.no_write)


if __name__ == "__main__":
    main()
