"""Schedule of depthwise convolution and pooling: a row of outputs in registers, the border told apart by loops.

The input is read in place. Its border conditions hold or fail for whole tiles except at the edges of the plane, so
the loops over tiles and rows are split there (``loop_partition``) and the middle carries no condition. Measured on
MobileNetV2's layers this runs at 85-95 % of the multiply-add peak; copying padded strips first reaches 60-70 %.
"""

import json
from dataclasses import asdict, dataclass

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ..machine import Machine

MAX_TILE = 8
"""Outputs of a row in registers beside nine weights and the inputs under them; 7 beat 14 by 1.5× on 3×3."""

MAX_UNROLLED_TAPS = 49


@dataclass(frozen=True, kw_only=True)
class WindowKnobs:
    """Knobs of the window template.

    Attributes
    ----------
    lanes : int
        Channels in a vector.
    tile_w : int
        Neighbouring outputs of a row in a tile.
    rows : int
        Output rows of one parallel task.
    """

    lanes: int
    tile_w: int
    rows: int

    def round_up(self, height: int, width: int) -> tuple[int, int]:
        """Height and width rounded up to whole tasks and tiles."""
        return -(-height // self.rows) * self.rows, -(-width // self.tile_w) * self.tile_w

    def to_json(self) -> str:
        """One line, as block annotations and tuning records hold it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "WindowKnobs":
        """Inverse of `to_json`."""
        return cls(**json.loads(text))


def default_window_knobs(batch: int, height: int, width: int, channels: int, machine: Machine) -> WindowKnobs:
    """Choose the tile that wastes least; rows so that a batch gives at least four tasks where the plane is large."""
    lanes = next((n for n in (16, 8, 4) if n <= machine.lanes and channels % n == 0), machine.lanes)
    limit = MAX_TILE if machine.registers >= 32 else MAX_TILE // 2
    tile_w = min(range(1, min(width, limit) + 1), key=lambda tile: (-(-width // tile) * (tile + 1), -tile))
    tasks = max(1, 4 // batch)
    rows = min(
        range(1, height + 1), key=lambda r: (abs(-(-height // r) - tasks), -(-height // r) * r - height)
    )
    return WindowKnobs(lanes=lanes, tile_w=tile_w, rows=rows)


def schedule_window(
    sch: Schedule, anchor: SBlockRV, last: SBlockRV, window: SBlockRV, knobs: WindowKnobs
) -> LoopRV:
    """Schedule the reduction ``anchor`` at the tiles of ``last``, the block that stores the result.

    Returns the outermost loop, whose steps are parallel tasks.
    """
    n, y, x, o = sch.get_loops(last)
    known_batch = isinstance(sch.get(n).extent, tirx.IntImm)
    task, row = sch.split(y, [None, knobs.rows])
    outermost = sch.fuse(n, task)
    sch.parallel(outermost)
    _fill_rows(sch, anchor, (row, x, o), window, knobs, known_batch)
    return outermost


def place_window(
    sch: Schedule, anchor: SBlockRV, last: SBlockRV, window: SBlockRV, knobs: WindowKnobs
) -> None:
    """The same where ``last`` stands under a loop over strips already, for the rows that its reader needs there."""
    row, x, o = sch.get_loops(last)[-3:]
    _fill_rows(sch, anchor, (row, x, o), window, knobs, True)


def _fill_rows(
    sch: Schedule,
    anchor: SBlockRV,
    loops: tuple[LoopRV, LoopRV, LoopRV],
    window: SBlockRV,
    knobs: WindowKnobs,
    known_batch: bool,
) -> None:
    row, x, o = loops
    column, tile_x = sch.split(x, [None, knobs.tile_w])
    vector, lane = sch.split(o, [None, knobs.lanes])
    sch.reorder(row, vector, column, tile_x, lane)
    sch.vectorize(lane)
    sch.unroll(tile_x)
    sch.set_scope(anchor, 0, "local")
    sch.compute_at(anchor, column, preserve_unit_loops=True)
    *_, x, o, ry, rx = sch.get_loops(anchor)
    sch.reorder(ry, rx, x, o)
    sch.vectorize(o)
    taps = int(sch.get(ry).extent) * int(sch.get(rx).extent)
    for loop in (x, rx, ry) if taps <= MAX_UNROLLED_TAPS else (x,):
        sch.unroll(loop)
    sch.compute_inline(window)
    # Beside a symbolic batch, TVM narrows some of the loops to 32 bits and leaves others at 64; splitting then fails.
    for loop in (column, row) if known_batch else ():
        sch.annotate(loop, "pragma_loop_partition_hint", 1)
    sch.decompose_reduction(anchor, ry)


def schedule_stencils(sch: Schedule, block: SBlockRV, window: SBlockRV, knobs: WindowKnobs) -> None:
    """Schedule fixed stencils, which have no reduction, in parallel rows."""
    place_stencils(sch, block, window, knobs)
    sch.parallel(sch.fuse(*sch.get_loops(block)[:2]))


def place_stencils(sch: Schedule, block: SBlockRV, window: SBlockRV, knobs: WindowKnobs) -> None:
    """Lay out the innermost three loops: all stencils of a vector of channels side by side, to share their sums."""
    row, x, o = sch.get_loops(block)[-3:]
    stencil, c = sch.split(o, [None, int(sch.get(window).iter_vars[-1].dom.extent)])
    vector, lane = sch.split(c, [None, knobs.lanes])
    column, tile_x = sch.split(x, [None, knobs.tile_w])
    sch.reorder(row, vector, column, tile_x, stencil, lane)
    sch.vectorize(lane)
    sch.unroll(tile_x)
    sch.unroll(stencil)
    sch.compute_inline(window)
    sch.annotate(column, "pragma_loop_partition_hint", 1)
