"""Dense convolutions, one layer at a time, against every engine and against the core's own multiply-add peak.

The peak is sampled in turns beside the engines; the best of its samples so far counts. ``peak %`` is nominal operations
in our best turn over that peak, conversions to and from NCHW included; ``kernel %`` is the layer alone, as
`CompiledModel.profile` reports it. Operations are nominal: padded taps count although they can be skipped, and
Winograd does fewer, so a share may exceed 100 %.
"""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from tvm_fastconv.measure import roofline

from . import options, results, runner

CONV = "conv"  # name of the layer in its one-layer model
# Not torch.compile, unless asked for: a convolution alone is the same oneDNN primitive, after seconds of compilation.
ENGINES = (runner.OURS, "torch", "torch_channels_last", "onnxruntime", "openvino")
MIN_TIME = 0.03  # seconds per turn: a layer takes 0.1 to 5 ms


@dataclass(frozen=True)
class Layer:
    """A convolution of a square plane, padded to keep its size before the stride."""

    kernel: int
    stride: int
    channels: int
    outputs: int
    size: int

    @property
    def name(self) -> str:
        """For example ``3x3/1 64-64 56x56``."""
        k, s, plane = self.kernel, self.stride, f"{self.size}x{self.size}"
        return f"{k}x{k}/{s} {self.channels}-{self.outputs} {plane}"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the direct method, padding included."""
        side = -(-self.size // self.stride)
        return self.kernel**2 * self.channels * self.outputs * side**2


LAYERS = (
    Layer(3, 1, 64, 64, 56),
    Layer(3, 1, 128, 128, 28),
    Layer(3, 1, 256, 256, 14),
    Layer(3, 1, 512, 512, 7),
    Layer(3, 2, 128, 256, 28),
    Layer(1, 1, 64, 256, 56),
    Layer(1, 1, 256, 64, 56),
    Layer(1, 1, 512, 128, 28),
    Layer(1, 1, 96, 24, 56),
    Layer(1, 1, 320, 1280, 7),
    Layer(5, 2, 32, 64, 56),
    Layer(5, 2, 64, 128, 28),
    Layer(7, 2, 3, 64, 224),
    Layer(7, 2, 32, 64, 56),
)


def make_layer(layer: Layer) -> tuple:
    """One convolution with bias, and its input."""
    import torch

    from .networks import SEED

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        conv = torch.nn.Conv2d(layer.channels, layer.outputs, layer.kernel, layer.stride, layer.kernel // 2)
        model = torch.nn.Sequential(OrderedDict({CONV: conv}))
        return model.eval(), (torch.randn(1, layer.channels, layer.size, layer.size),)


def run(settings: runner.Settings, layers: Sequence[Layer], write: bool) -> list[runner.Row]:
    """Measure, print and write ``conv2d[-t<threads>][-<isa>].json``."""
    peak = roofline.fma_probe(roofline.build_library(settings.isa))
    rows, shares = [], []
    for layer in layers:
        print(f"{layer.name} ...", file=sys.stderr, flush=True)
        case = runner.Case(
            name=layer.name, make=functools.partial(make_layer, layer), facts={"macs": layer.macs}
        )
        rows.append(runner.measure(case, settings, {"peak": peak.run}))
        shares.append(_shares(layer, rows[-1], peak.best_rate * settings.threads))
    columns = {title: [percent(share[key]) for share in shares] for title, key in COLUMNS.items()}
    results.print_table(f"milliseconds, batch 1, {results.describe(settings)}", rows, columns)
    if write:
        name = options.results_name("conv2d", settings)
        results.write_results(name, settings, rows, {"shares_of_peak": shares})
    return rows


COLUMNS = {"peak %": "call", "kernel %": "kernel", "best rival %": "best_rival"}


def _shares(layer: Layer, row: runner.Row, peak_gflops: float) -> dict[str, float | None]:
    def share(milliseconds: float | None) -> float | None:
        return None if milliseconds is None else 2 * layer.macs / (milliseconds * 1e6) / peak_gflops

    ours = row.engines.get(runner.OURS)
    best = row.engines[row.best_rival] if row.best_rival else None
    return {
        "peak_gflops": peak_gflops,
        "call": share(ours.best_ms if ours else None),
        "kernel": share(ours.layers_ms.get(CONV) if ours else None),
        "best_rival": share(best.best_ms if best else None),
    }


def percent(share: float | None) -> str:
    """A share as it stands in a table."""
    return "-" if share is None else f"{100 * share:.0f}"


def main() -> None:
    """Command line."""
    run(*options.parse_layers(__doc__, LAYERS, MIN_TIME, ENGINES))


if __name__ == "__main__":
    main()
