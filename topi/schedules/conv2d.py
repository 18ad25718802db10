"""Register-tile schedule of `conv2d` and `dense`: one nest of outer loops, the tile in registers inside."""

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from .byte_counts import schedule_byte_counts
from .dot_products import replace_dot_products, schedule_dot_sums
from .grouped import finish_grouped_sums, schedule_grouped_sums, vectorize_grouped_window
from .loops import vectorize_innermost
from .skip_rows import skip_rows
from .tile import TileKnobs

ORDERS = {"int8_conv2d": schedule_dot_sums, "grouped_conv2d": schedule_grouped_sums}
"""Operator to how its sums are ordered around the vectors, where that is not `schedule_sums`."""


def schedule_tile(
    sch: Schedule, anchor: SBlockRV, last: SBlockRV, stages: dict[str, SBlockRV], knobs: TileKnobs
) -> LoopRV:
    """Schedule the sums of ``anchor`` at the register tiles of ``last``, the block that stores the result.

    Returns the outermost loop, whose steps are parallel tasks.

    Parameters
    ----------
    anchor : the reduction block, over (..., x, o) and its reduction axes.
    last : the block behind all epilogues, over (..., x, o).
    stages : ``window``, the padded input, absent where the input is read in place; ``bytes`` of `byte_counts`.
    """
    n, y, x, o = _four_loops(sch, last)
    panel, row, column, tile = _split_tile(sch, y, x, o, knobs)
    chunk, panel = sch.split(panel, [knobs.chunks, None])
    strip, row = sch.split(row, [None, knobs.strip])
    sch.reorder(n, strip, chunk, panel, row, column, *tile)
    outermost = sch.fuse(n, strip, chunk)
    sch.parallel(outermost)
    _fill_tile(sch, anchor, outermost, column, tile, stages, knobs)
    return outermost


def place_tile(
    sch: Schedule,
    anchor: SBlockRV,
    last: SBlockRV,
    outermost: LoopRV,
    stages: dict[str, SBlockRV],
    knobs: TileKnobs,
) -> None:
    """The same where ``last`` stands under the loop ``outermost`` already, for the rows that its reader needs there."""
    y, x, o = sch.get_loops(last)[-3:]
    panel, row, column, tile = _split_tile(sch, y, x, o, knobs)
    sch.reorder(panel, row, column, *tile)
    _fill_tile(sch, anchor, outermost, column, tile, stages, knobs)


def _split_tile(
    sch: Schedule, y: LoopRV, x: LoopRV, o: LoopRV, knobs: TileKnobs
) -> tuple[LoopRV, LoopRV, LoopRV, list[LoopRV]]:
    """Loops over panels, tile rows and tile columns, and those of a tile."""
    panel, vector, lane = sch.split(o, [None, knobs.vectors, knobs.lanes])
    row, tile_y = sch.split(y, [None, knobs.tile_h])
    column, tile_x = sch.split(x, [None, knobs.tile_w])
    return panel, row, column, [tile_y, tile_x, vector, lane]


def _fill_tile(
    sch: Schedule,
    anchor: SBlockRV,
    outermost: LoopRV,
    column: LoopRV,
    tile: list[LoopRV],
    stages: dict[str, SBlockRV],
    knobs: TileKnobs,
) -> None:
    """Lay out the sums of a tile under the loop ``column``, and the padded input under ``outermost``."""
    keep_in_registers(sch, tile[:-1], tile[-1])
    sch.set_scope(anchor, 0, "local")
    sch.compute_at(anchor, column, preserve_unit_loops=True)
    op = str(sch.get(anchor).annotations["fastconv.op"])
    reductions = ORDERS.get(op, schedule_sums)(sch, anchor, knobs)
    if "bytes" in stages:
        sch.compute_at(stages["bytes"], reductions[-1], preserve_unit_loops=True)
    if (window := stages.get("window")) is not None:
        sch.compute_at(window, outermost, preserve_unit_loops=True)
        if op == "grouped_conv2d":
            vectorize_grouped_window(sch, anchor, window, knobs)
        else:
            vectorize_innermost(sch, window, knobs.lanes)
    if "bytes" in stages:
        schedule_byte_counts(sch, stages["bytes"], knobs.lanes)
    init = sch.decompose_reduction(anchor, reductions[0])
    skip_rows(sch, anchor, reductions[0])
    if op == "int8_conv2d":
        sch.vectorize(sch.get_loops(init)[-1])
        replace_dot_products(sch, anchor)
    elif op == "grouped_conv2d":
        finish_grouped_sums(sch, anchor, init, knobs)


def _four_loops(sch: Schedule, block: SBlockRV) -> list[LoopRV]:
    """The loops of ``block`` as batch, row, column, channel; dense layers have fewer axes, or more in front."""
    loops = sch.get_loops(block)
    while len(loops) < 4:
        loops = [sch.add_unit_loop(loops[0]), *loops]
    return [sch.fuse(*loops[:-3]), *loops[-3:]] if len(loops) > 4 else loops


def schedule_sums(sch: Schedule, anchor: SBlockRV, knobs: TileKnobs) -> list[LoopRV]:
    """Order the sums of ``anchor``, which stand at their place, around the vectors; returns its reduction loops."""
    axes = [var.iter_type for var in sch.get(anchor).iter_vars]
    loops = sch.get_loops(anchor)[-len(axes) :]
    spatial = [loop for loop, kind in zip(loops, axes, strict=True) if kind == tirx.IterVar.DataPar]
    reductions = [loop for loop, kind in zip(loops, axes, strict=True) if kind == tirx.IterVar.CommReduce]
    vector, lane = sch.split(spatial[-1], [None, knobs.lanes])
    single = [loop for loop in spatial[:-1] if _is_single(sch, loop)]
    tile = [loop for loop in spatial[:-1] if not _is_single(sch, loop)]
    sch.reorder(*single, *reductions, *tile, vector, lane)
    keep_in_registers(sch, [*single, *tile, vector], lane)
    return reductions


def _is_single(sch: Schedule, loop: LoopRV) -> bool:
    extent = sch.get(loop).extent
    return isinstance(extent, tirx.IntImm) and int(extent) == 1


def keep_in_registers(sch: Schedule, loops: list[LoopRV], lane: LoopRV) -> None:
    """Unroll ``loops`` around the vectors ``lane``, so that what they index is never memory."""
    sch.vectorize(lane)
    for loop in loops:
        sch.unroll(loop)
