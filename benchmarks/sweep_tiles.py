"""How far the default register tile is from the best one: every tile that fits, on twenty shapes.

``python -m benchmarks.sweep_tiles`` measures, prints and writes ``results/tiles.json``. All tiles of a shape take
turns in one run; strips and chunks stay as the default has them for the tile's height.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from . import options, results

# (height = width, channels in, channels out, kernel, stride)
SHAPES = (
    (56, 64, 64, 3, 1), (28, 128, 128, 3, 1), (14, 256, 256, 3, 1), (7, 512, 512, 3, 1), (224, 3, 64, 7, 2),
    (56, 64, 128, 3, 2), (56, 64, 128, 1, 2), (112, 16, 96, 1, 1), (56, 144, 24, 1, 1), (28, 32, 192, 1, 1),
    (14, 384, 64, 1, 1), (14, 96, 576, 1, 1), (7, 160, 960, 1, 1), (7, 320, 1280, 1, 1), (27, 64, 192, 5, 1),
    (13, 384, 256, 3, 1), (55, 64, 16, 1, 1), (13, 512, 1000, 1, 1), (32, 96, 96, 3, 1), (17, 40, 100, 3, 1),
)  # fmt: skip


def sweep(shape: tuple[int, int, int, int, int], turns: int, min_time: float) -> dict[str, Any]:
    """Measure every tile on one shape; returns the default, the best and their times in milliseconds."""
    from tvm_fastconv.measure.timing import interleave
    from tvm_fastconv.targets import resolve_target
    from tvm_fastconv.topi.machine import Machine
    from tvm_fastconv.topi.schedules.cpu.tile import default_knobs, feasible_knobs

    target = resolve_target("native")
    machine = Machine.of(target)
    layer = _Layer(shape)
    chosen = default_knobs(layer.problem, machine)
    candidates = {knobs.to_json(): knobs for knobs in (chosen, *feasible_knobs(layer.problem, machine))}
    times = interleave({name: layer.build(knobs, target) for name, knobs in candidates.items()}, 2, min_time)
    # The quick pass keeps the ten best and the default; those are measured again, with more turns.
    finalists = sorted(times, key=lambda name: times[name].best)[:10]
    again = {name: layer.build(candidates[name], target) for name in {*finalists, chosen.to_json()}}
    times = interleave(again, turns, min_time)
    best = min(times, key=lambda name: times[name].median)
    return {
        "shape": shape,
        "tiles": len(candidates),
        "default": dataclasses.asdict(chosen),
        "best": dataclasses.asdict(candidates[best]),
        "default_ms": times[chosen.to_json()].median * 1e3,
        "best_ms": times[best].median * 1e3,
        "ratio": times[best].median / times[chosen.to_json()].median,
    }


class _Layer:
    """One convolution, with data, that can be built for any knobs."""

    def __init__(self, shape: tuple[int, int, int, int, int]) -> None:
        import numpy as np

        from tvm_fastconv.topi.conv2d import Conv2dParams
        from tvm_fastconv.topi.schedules.cpu.tile import TileProblem

        size, channels, out_channels, kernel, stride = shape
        self.params = Conv2dParams(
            kernel=(kernel, kernel),
            out_channels=out_channels,
            stride=(stride, stride),
            padding=(kernel // 2,) * 4,
        )
        rng = np.random.default_rng(0)
        self.data = rng.standard_normal((1, size, size, channels), np.float32)
        self.weight = rng.standard_normal((out_channels, channels, kernel, kernel), np.float32)
        self.size = self.params.output_size(size, size)
        self.problem = TileProblem(
            batch=1,
            height=self.size[0],
            width=self.size[1],
            out_channels=out_channels,
            groups=1,
            reduction=self.weight[0].size,
            strip_row_bytes=4 * stride * self.params.window_size(1, self.size[1])[1] * channels,
            weight_bytes=self.weight.nbytes,
        )

    def build(self, knobs: Any, target: Any) -> Any:
        """A function of no arguments that runs the layer once."""
        import numpy as np
        import tvm
        from tvm import te

        from tvm_fastconv.relay_passes import PASS_CONFIG
        from tvm_fastconv.topi.conv2d import conv2d, pack_weight
        from tvm_fastconv.topi.machine import Machine
        from tvm_fastconv.topi.schedules import schedule_primfunc
        from tvm_fastconv.topi.window import extents

        arrays = [self.data, pack_weight(self.weight, knobs.panel)]
        tensors = [te.placeholder(extents(*a.shape), "float32", name=f"arg{i}") for i, a in enumerate(arrays)]
        attrs = {"fastconv.op": "conv2d", "fastconv.knobs": knobs.to_json()}
        result = conv2d(*tensors, self.params, knobs, attrs)
        func = schedule_primfunc(te.create_prim_func([*tensors, result]), Machine.of(target))
        with tvm.transform.PassContext(config=PASS_CONFIG):
            library = tvm.compile(func, target=target)
        values = [tvm.runtime.tensor(a) for a in arrays]
        out = tvm.runtime.tensor(np.empty((1, *self.size, self.params.out_channels), np.float32))
        return lambda: library(*values, out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_arguments(parser)
    given = parser.parse_args()
    settings = options.settings_of(given, min_time=0.01)
    from rich.table import Table

    table = Table(
        title=f"default tile against the best of all, {results.describe(settings)}", title_justify="left"
    )
    for column in ("shape", "tiles", "default ms", "best ms", "best / default", "default tile", "best tile"):
        table.add_column(column, justify="right")
    rows = []
    for shape in SHAPES:
        row = sweep(shape, settings.repeats, settings.min_time)
        rows.append(row)
        tiles = ["{tile_h}x{tile_w}x{vectors}".format(**row[which]) for which in ("default", "best")]
        table.add_row(
            "x".join(map(str, shape)), str(row["tiles"]), f"{row['default_ms']:.3f}", f"{row['best_ms']:.3f}",
            f"{row['ratio']:.2f}", *tiles,
        )  # fmt: skip
    results.console().print(table)
    if not given.no_write:
        results.write_results(options.results_name("tiles", settings), settings, [], {"shapes": rows})


if __name__ == "__main__":
    main()
