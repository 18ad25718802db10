"""Schedule of `grouped_conv2d` on a GPU: a thread makes a few pixels of neighbouring output channels of one group.

Weights lie in panels of as many outputs as a block has, so that the threads of a warp read them in whole lines. Inputs
are loaded four channels at a time where a group has them, one vector for each column under the pixels; the threads of a
group load the same ones, which L1 hands to all of them at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...gpu import WARP, Gpu
from ..registry import Site, Template, register
from .window import EACH_LOAD, EACH_STORE, FIXED, LATENCY, STEP, GpuWindowKnobs, hold_window, split_window

MAX_UNROLLED_COLUMNS = 7
"""Columns of a kernel whose taps stand unrolled, on inputs in registers."""


@dataclass(frozen=True, kw_only=True)
class GpuGroupedKnobs(GpuWindowKnobs):
    """Knobs of the window template where an output is summed over the channels of its group.

    A vector of outputs never spans groups.
    """

    @property
    def panel(self) -> int:
        """Output channels of a block, which is also the width of a packed weight panel."""
        return self.lanes * self.vectors

    def cycles(self, problem: Any, machine: Gpu) -> float:
        """Of the whole batch, all multiprocessors together."""
        loops, inputs = problem.window_loops, problem.grouped_loops.inputs
        rows, columns = self.round_up(loops.height, loops.width)
        pixels = self.tile_h * self.tile_w
        blocks = loops.batch * rows * columns * loops.channels // (self.panel * math.prod(self.block_size))
        loads = self.tile_h * loops.kernel[0] * loops.seen(1, self.tile_w)[1] * inputs / math.gcd(inputs, 4)
        work = (
            FIXED + EACH_LOAD * loads + loops.taps * inputs * (1 + pixels * self.lanes) + EACH_STORE * pixels
        )
        warps = -(-blocks // machine.multiprocessors) * -(-self.threads // WARP)
        issued = warps * work * WARP / machine.fma_lanes
        # L1 hands out 128 bytes a cycle: a warp takes a vector of weights for each term, and its inputs.
        handed = warps * WARP * (loops.taps * inputs * self.lanes + 2 * loads) * 4 / 128
        moved = 4 * loops.batch * (loops.inputs + loops.height * loops.width * loops.channels)
        streamed = moved / machine.device_bytes_per_cycle
        return machine.launch_cycles + LATENCY + STEP * work + math.hypot(issued, handed, streamed)


def _schedule_grouped(site: Site) -> None:
    """Schedule the sums in registers of the thread that stores them."""
    sch, anchor, window, knobs = site.sch, site.anchor, site.stages["window"], site.knobs(GpuGroupedKnobs)
    nest = split_window(sch, sch.get_loops(site.last), knobs)
    sch.set_scope(anchor, 0, "local")
    sch.compute_at(anchor, nest.threads[-1], preserve_unit_loops=True)
    names = [var.var.name.removeprefix("v_") for var in sch.get(anchor).iter_vars]
    loops = dict(zip(names, sch.get_loops(anchor)[-len(names) :], strict=True))
    terms, term = [], []
    if "rc" in loops:
        several = math.gcd(int(sch.get(loops["rc"]).extent), 4)
        outer, inner = sch.split(loops["rc"], [None, several])
        terms, term = [outer], [inner]
    taps = [[loops[name]] if name in loops else [] for name in ("ry", "rx")]
    sums = [*taps[0], *terms, *taps[1], *term]
    sch.reorder(*sums, loops["y"], loops["x"], loops["o"])
    sch.vectorize(loops["o"])
    unrolled = not taps[1] or int(sch.get(taps[1][0]).extent) <= MAX_UNROLLED_COLUMNS
    rows = [*taps[0], *terms]
    if unrolled and rows:
        sch.compute_at(window, rows[-1], preserve_unit_loops=True)
    if not (unrolled and rows and hold_window(sch, window, several if term else 1)):
        sch.compute_inline(window)
    for loop in [*(taps[1] if unrolled else []), *term, loops["y"], loops["x"]]:
        sch.unroll(loop)
    nest.bind(sch)
    sch.decompose_reduction(anchor, sums[0])


register("cuda", ["grouped_conv2d"], Template(_schedule_grouped))
