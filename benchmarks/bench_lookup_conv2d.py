"""Magnitude-pruned 3×3 layers: milliseconds against density, ours beside the best dense engine.

For every layer and density two forms of ours take turns with the dense engines: as compiled, where dispatch chooses,
and with lookups forced. The engines run the layer dense, since none of them knows sparse convolutions: one time for all
densities.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import options, results, runner
from .bench_conv2d import ENGINES, MIN_TIME, Layer

LAYERS = tuple(Layer(3, 1, c, c, size) for c, size in ((64, 56), (128, 28), (256, 14), (512, 7)))
DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.6)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One layer at one density: milliseconds as compiled and with lookups forced, and what was compiled.

    ``nonzero_bytes`` are those that lookups store for each coefficient.
    """

    density: float
    op: str
    nonzero_bytes: float
    chosen_ms: float
    lookup_ms: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One layer: the best dense engine of others, and our points."""

    layer: str
    best_rival: str
    dense_ms: float
    points: tuple[Point, ...]

    def ratio(self, density: float) -> float:
        """The dense engine's time over ours as compiled."""
        return self.dense_ms / next(p.chosen_ms for p in self.points if p.density == density)

    @property
    def break_even(self) -> float:
        """The largest density up to which forced lookups are no slower than the best dense engine."""
        faster = 0.0
        for point in self.points:
            if point.lookup_ms > self.dense_ms:
                break
            faster = point.density
        return faster


def make_pruned(layer: Layer, density: float) -> tuple[Any, tuple[Any, ...]]:
    """A convolution of which the largest weights are kept, and its input."""
    import torch

    from .networks import SEED

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        conv = torch.nn.Conv2d(layer.channels, layer.outputs, layer.kernel, padding=layer.kernel // 2)
        magnitude = conv.weight.data.abs()
        kept = magnitude >= torch.quantile(magnitude.flatten()[: 1 << 20], 1 - density)
        conv.weight.data.mul_(kept)
        return conv.eval(), (torch.randn(1, layer.channels, layer.size, layer.size),)


def measure(layer: Layer, settings: runner.Settings, densities: Sequence[float]) -> Curve:
    """All densities of one layer and the dense engines, in turns."""
    import tvm_fastconv as fc
    from tvm_fastconv.measure.rivals import build_rival
    from tvm_fastconv.measure.timing import interleave

    dense, inputs = make_pruned(layer, 1.0)
    rivals = {
        name: build_rival(name, dense, inputs, threads=settings.threads)
        for name in settings.engines
        if name != runner.OURS
    }
    engines = {name: rival.run for name, rival in rivals.items() if rival.status == "ok"}
    ours, nonzeros = {}, {}
    for density in densities:
        module, _ = make_pruned(layer, density)
        nonzeros[density] = int((module.weight != 0).sum())
        ours[f"chosen {density}"] = runner.Ours(module, inputs, settings)
        ours[f"lookup {density}"] = runner.Ours(module, inputs, settings, methods=fc.Lookup())
    timings = interleave({**engines, **ours}, settings.repeats, settings.min_time)
    best = min(engines, key=lambda name: timings[name].median)
    return Curve(
        layer=layer.name,
        best_rival=best,
        dense_ms=timings[best].median * 1e3,
        points=tuple(
            Point(
                density=density,
                op=" + ".join(report.op for report in ours[f"chosen {density}"].reports().values()),
                nonzero_bytes=sum(r.weight_bytes for r in ours[f"lookup {density}"].reports().values())
                / nonzeros[density],
                chosen_ms=timings[f"chosen {density}"].median * 1e3,
                lookup_ms=timings[f"lookup {density}"].median * 1e3,
            )
            for density in densities
        ),
    )


def draw(curves: Sequence[Curve], path: Path, title: str) -> None:
    """One panel for each layer: milliseconds over density."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(curves), 3.2), layout="constrained")
    for axis, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        densities = [point.density for point in curve.points]
        axis.axhline(curve.dense_ms, color="gray", label=f"dense, {curve.best_rival}")
        axis.plot(densities, [p.lookup_ms for p in curve.points], ":", label="lookups forced")
        axis.plot(densities, [p.chosen_ms for p in curve.points], ".-", label="as compiled")
        axis.set(title=curve.layer, xlabel="density", ylim=(0, 1.6 * curve.dense_ms))
    axis.legend(fontsize="small")
    figure.axes[0].set_ylabel("ms")
    figure.suptitle(title, fontsize="small")
    figure.savefig(path)


def run(settings: runner.Settings, layers: Sequence[Layer], write: bool) -> list[Curve]:
    """Measure, print and write ``lookup_conv2d[-t<threads>][-<isa>].json`` and ``.svg``."""
    curves = []
    for layer in layers:
        print(f"{layer.name} ...", file=sys.stderr, flush=True)
        curves.append(measure(layer, settings, DENSITIES))
    out = results.console()
    out.print(f"milliseconds, batch 1, {results.describe(settings)}")
    for curve in curves:
        out.print(
            f"{curve.layer}: dense {curve.dense_ms:.3f} ({curve.best_rival}), break-even {curve.break_even}"
        )
        for point in curve.points:
            out.print(
                f"  {point.density:<5} lookups {point.lookup_ms:.3f}, as compiled {point.chosen_ms:.3f} "
                f"({point.op}), {point.nonzero_bytes:.2f} bytes per nonzero, "
                f"{curve.ratio(point.density):.2f} times the dense engine's speed"
            )
    if write:
        name = options.results_name("lookup_conv2d", settings)
        extra = {
            "curves": [
                asdict(curve)
                | {
                    "break_even": curve.break_even,
                    "ratios": {p.density: curve.ratio(p.density) for p in curve.points},
                }
                for curve in curves
            ]
        }
        written = results.write_results(name, settings, [], extra)
        draw(curves, written.with_suffix(".svg"), f"pruned layers, {results.describe(settings)}")
    return curves


def main() -> None:
    """Command line."""
    run(*options.parse_layers(__doc__, LAYERS, MIN_TIME, ENGINES))


if __name__ == "__main__":
    main()
