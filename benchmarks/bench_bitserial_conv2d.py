"""Binary convolutions: ResNet-18's 3×3 layers with ±1 weights behind a sign, against dense FP32 and OpenVINO's own.

Two tables. The first is one layer with floats in NCHW before and behind it, all conversions included; the dense rivals
compute the same module in FP32. The second is the kernels alone, as our profile and OpenVINO's report them, in a
network of two such layers: the first reads and writes packed bits, the second reads bits and writes floats (ours,
and OpenVINO's) in NHWC. ``nominal %`` and ``executed %`` are binary multiply-accumulates per second over the peak of
exclusive or + popcount + add in registers, sampled in the same turns: those of the layer, padded taps included, and
those that our tiles really do, which are rounded up. OpenVINO's are nominal; it skips padded taps, so that they may
exceed 100 %. With ``--isa avx2`` OpenVINO's binary kernels keep 512-bit registers, see `openvino_binary`; the results
name the implementation that ran.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tvm_fastconv.measure import roofline

from . import openvino_binary, options, results, runner
from .bench_conv2d import ENGINES, MIN_TIME, Layer, percent
from .binary_layers import CONVS, build_rival, make_layers
from .openvino_binary import NAME as BINARY

LAYERS = tuple(Layer(3, 1, c, c, size) for c, size in ((64, 56), (128, 28), (256, 14), (512, 7)))
KERNELS = {"first": "bits to bits", "second": "bits to floats"}
RUNS = 20  # inferences in a turn of the kernels; the best of them counts
WORD_BITS = 32


def measure_layer(layer: Layer, settings: runner.Settings) -> runner.Row:
    """One layer, floats in and out, in every engine."""
    module, inputs = make_layers(layer, 1)
    rival = functools.partial(build_rival, module, inputs[0], settings.threads)
    case = runner.Case(
        name=layer.name, make=lambda: (module, inputs), facts={"macs": layer.macs}, rivals={BINARY: rival}
    )
    return runner.measure(case, settings)


def ratio_to(row: runner.Row, binary: bool) -> float | None:
    """Of the row: OpenVINO's binary layer over ours, or the best of the dense engines over ours."""
    chosen = {n: m for n, m in row.engines.items() if n == runner.OURS or (n == BINARY) == binary}
    return runner.compare(runner.Case(name=row.case, make=_nothing, facts=row.facts), chosen).ratio


def _nothing() -> Any:
    raise NotImplementedError("compared, never made")


def measure_kernels(layer: Layer, settings: runner.Settings, peak: roofline.Probe) -> list[runner.Row]:
    """Kernels of two layers, ours and OpenVINO's in turns, and the peak between them: a row for each of `KERNELS`."""
    from tvm_fastconv.measure.rivals import build_callable, reference_outputs

    module, inputs = make_layers(layer, len(CONVS))
    builders = {
        runner.OURS: lambda: build_ours(module, inputs, settings),
        BINARY: lambda: build_rival(module, inputs[0], settings.threads, profiled=True),
    }
    reference = reference_outputs(module, inputs)
    engines = {name: build_callable(name, build, reference=reference) for name, build in builders.items()}
    turns: dict[str, list[list[float]]] = {name: [] for name, e in engines.items() if e.status == "ok"}
    for _ in range(settings.repeats):
        for name, turn in turns.items():
            turn.append(kernels_ms(engines[name].run))
        peak.run()
    return [_kernel_row(layer, index, engines, turns) for index in range(len(CONVS))]


def build_ours(module: Any, inputs: tuple[Any, ...], settings: runner.Settings) -> runner.Ours:
    """Our network.

    Raises
    ------
    RuntimeError
        A layer of it is not bitserial.
    """
    ours = runner.Ours(module, inputs, settings)
    for name in CONVS:
        if (report := ours.reports()[name]).method != "bitserial":
            raise RuntimeError(f"{name} is {report.method}: {report.reason}")
    return ours


def kernels_ms(network: Any) -> list[float]:
    """Milliseconds of each layer of `CONVS`, of the best of `RUNS` inferences."""
    if isinstance(network, openvino_binary.BinaryNetwork):
        return network.kernels_ms(RUNS)
    layers = network.layers_ms(RUNS)
    return [layers[name] for name in CONVS]


def _kernel_row(
    layer: Layer, index: int, engines: dict[str, Any], turns: dict[str, list[list[float]]]
) -> runner.Row:
    name = CONVS[index]
    facts: dict[str, Any] = {"macs": layer.macs}
    if runner.OURS in turns:
        ours = engines[runner.OURS].run
        facts["executed_macs"] = executed_macs(
            layer, ours.reports()[name].schedule, ours.machine.counts_words
        )
    if BINARY in turns:
        facts["openvino_implementation"] = engines[BINARY].run.implementations()[index]
    case = runner.Case(name=f"{layer.name} {KERNELS[name]}", make=_nothing, facts=facts)
    samples = {engine: [turn[index] for turn in side] for engine, side in turns.items()}
    return runner.compare(case, {name: timed(e, samples.get(name)) for name, e in engines.items()})


def timed(engine: Any, samples_ms: Sequence[float] | None) -> runner.Measured:
    """What the runner would make of these samples, or of none if the engine failed."""
    from tvm_fastconv.measure.timing import Timing

    known = {name: getattr(engine, name) for name in ("status", "detail", "error", "build_seconds")}
    if samples_ms is None:
        return runner.Measured(**known)
    timing = Timing(tuple(samples_ms), RUNS)
    times = {"median_ms": timing.median, "best_ms": timing.best, "spread": timing.spread}
    return runner.Measured(**known, **times, samples_ms=timing.samples)


def executed_macs(layer: Layer, schedule: str, skips_rows: bool) -> int:
    """Binary multiply-accumulates of all tiles: pixels, channels and words rounded up to what the registers hold.

    Tiles of one row pass over the kernel rows outside the plane if ``skips_rows``.
    """
    from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs

    tile = TileKnobs.from_json(schedule)
    rows, columns = tile.round_up(layer.size, layer.size)
    skipped = layer.kernel // 2 * 2 if skips_rows and tile.tile_h == 1 else 0
    outputs = -(-layer.outputs // tile.panel) * tile.panel
    bits = -(-layer.channels // WORD_BITS) * WORD_BITS
    return (rows * layer.kernel - skipped) * columns * outputs * bits * layer.kernel


def shares_of(row: runner.Row, peak_gmacs: float) -> dict[str, float | None]:
    """Shares of the peak in the best turn; OpenVINO's is nominal."""

    def share(engine: str, macs: str) -> float | None:
        measured = row.engines.get(engine)
        if measured is None or measured.best_ms is None:
            return None
        return row.facts[macs] / (measured.best_ms * 1e6) / peak_gmacs

    return {
        "peak_gmacs": peak_gmacs,
        "nominal": share(runner.OURS, "macs"),
        "executed": share(runner.OURS, "executed_macs"),
        BINARY: share(BINARY, "macs"),
    }


def run(settings: runner.Settings, layers: Sequence[Layer], write: bool) -> list[runner.Row]:
    """Measure, print and write ``bitserial_conv2d[-t<threads>][-<isa>].json``."""
    # The inputs are random floats and hold no 0.
    warnings.filterwarnings("ignore", message=r"sign\(0\) is taken as \+1")
    peak = roofline.xnor_probe(roofline.build_library(settings.isa))
    rows, kernels, shares = [], [], []
    for layer in layers:
        print(f"{layer.name} ...", file=sys.stderr, flush=True)
        rows.append(measure_layer(layer, settings))
        kernels += (measured := measure_kernels(layer, settings, peak))
        shares += [shares_of(row, peak.best_rate * settings.threads) for row in measured]
    ratios = {name: [ratio_to(row, name == BINARY) for row in rows] for name in ("dense", BINARY)}
    _print(settings, rows, ratios, kernels, shares)
    if write:
        extra = {"ratios": ratios, "kernels": [asdict(row) for row in kernels], "shares_of_peak": shares}
        results.write_results(options.results_name("bitserial_conv2d", settings), settings, rows, extra)
    return rows


def _print(
    settings: runner.Settings,
    rows: list[runner.Row],
    ratios: dict[str, list[float | None]],
    kernels: list[runner.Row],
    shares: list[dict[str, float | None]],
) -> None:
    where = f"batch 1, {results.describe(settings)}"
    against = {f"to {name}": ["-" if r is None else f"{r:.2f}" for r in ratios[name]] for name in ratios}
    results.print_table(f"one binary layer, floats in and out: milliseconds, {where}", rows, against)
    columns = {"nominal %": "nominal", "executed %": "executed", "OpenVINO %": BINARY}
    cells = {title: [percent(share[key]) for share in shares] for title, key in columns.items()}
    results.print_table(f"kernels alone: milliseconds, {where}", kernels, cells)


def main() -> None:
    """Command line."""
    run(*options.parse_layers(__doc__, LAYERS, MIN_TIME, ENGINES))


if __name__ == "__main__":
    main()
