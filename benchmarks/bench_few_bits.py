"""Layers of more bits beside the binary one: 2-bit activations, ternary and 2-bit weights, against 1-bit × 1-bit.

ResNet-18's 3×3 layers with floats in NCHW before and behind them, all forms in turns. ``times`` is each form's median
over that of the binary layer.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from . import options, results, runner
from .bench_bitserial_conv2d import LAYERS
from .bench_conv2d import MIN_TIME, Layer

BINARY = "1-bit activations, 1-bit weights"


@dataclass(frozen=True, kw_only=True)
class Form:
    """One layer in one form; ``op`` is what runs."""

    layer: str
    form: str
    op: str
    median_ms: float
    times: float


def _forms() -> dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]:
    """How activations and weights are rounded, by name."""
    import torch

    def sign(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x >= 0, 1.0, -1.0)

    def two_bits(x: torch.Tensor) -> torch.Tensor:
        return torch.round(torch.clamp(x, 0, 1) * 3) / 3

    return {
        BINARY: (sign, sign),
        "2-bit activations, 1-bit weights": (two_bits, sign),
        "1-bit activations, ternary weights": (sign, lambda w: sign(w) * (w.abs() > 0.5)),
        "2-bit activations, 2-bit weights": (
            two_bits,
            lambda w: torch.clamp(torch.round(w + 0.5), -1, 2) - 0.5,
        ),
    }


def make_layer(layer: Layer, form: str) -> tuple[Any, tuple[Any, ...]]:
    """The layer as a module, and its input."""
    import torch

    from .networks import SEED

    activation, weights = _forms()[form]

    class FewBits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            shape = (layer.outputs, layer.channels, layer.kernel, layer.kernel)
            self.weight = torch.nn.Parameter(weights(torch.randn(shape)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.conv2d(activation(x), self.weight, padding=layer.kernel // 2)

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return FewBits().eval(), (torch.randn(1, layer.channels, layer.size, layer.size),)


def measure(layer: Layer, settings: runner.Settings) -> list[Form]:
    """Every form of one layer, in turns."""
    from tvm_fastconv.measure.timing import interleave

    ours = {form: runner.Ours(*make_layer(layer, form), settings) for form in _forms()}
    timings = interleave(ours, settings.repeats, settings.min_time)
    return [
        Form(
            layer=layer.name,
            form=form,
            op=" + ".join(report.op for report in ours[form].reports().values()),
            median_ms=timings[form].median * 1e3,
            times=timings[form].median / timings[BINARY].median,
        )
        for form in ours
    ]


def run(settings: runner.Settings, write: bool) -> Sequence[Form]:
    """Measure, print and write ``few_bits[-t<threads>][-<isa>].json``."""
    warnings.filterwarnings("ignore", message=r"sign\(0\) is taken as \+1")
    forms = []
    for layer in LAYERS:
        print(f"{layer.name} ...", file=sys.stderr, flush=True)
        forms += measure(layer, settings)
    out = results.console()
    out.print(f"milliseconds, batch 1, {results.describe(settings)}")
    for form in forms:
        out.print(f"{form.layer:<24} {form.form:<36} {form.median_ms:6.3f} {form.times:5.2f}  {form.op}")
    if write:
        name = options.results_name("few_bits", settings)
        results.write_results(name, settings, [], {"forms": [asdict(form) for form in forms]})
    return forms


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    given = parser.parse_args()
    run(options.settings_of(given, MIN_TIME), not given.no_write)


if __name__ == "__main__":
    main()
