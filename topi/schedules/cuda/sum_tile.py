"""A tile of sums that a device function leaves in shared memory, for each block, and what is made of them there.

The function is called by all threads in place of the loops of the sums. What stands behind them is scheduled as any
element-wise nest, under the same block.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import tirx
from tvm.ir import Range, TensorRegion
from tvm.s_tir import SBlock, SBlockRealize, Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from .generic import is_plain


def tile_loops(
    sch: Schedule, last: SBlockRV, pixels: int, channels: Sequence[int], lead: int = 0
) -> tuple[LoopRV, list[int | tvm.ir.Expr]]:
    """Make the loops of ``last`` those of tiles of ``pixels`` and of ``channels[0]``, a block of the grid for each.

    Parameters
    ----------
    channels : sequence of int
        Of a tile; what follows the first are the sizes of axes behind that of channels.
    lead : int
        Axes in front that are no pixels.

    Returns
    -------
    LoopRV
        The loop of blocks.
    list
        How many tiles of pixels there are, and of channels: the latter follow each other.
    """
    _flatten_pixels(sch, last, lead, len(channels))
    *outer, pixel, channel = sch.get_loops(last)[: lead + 2]
    inner = sch.get_loops(last)[lead + 2 :]
    tiles, pixel = sch.split(pixel, [None, pixels])
    panel, channel = sch.split(channel, [None, channels[0]])
    counts = [sch.get(loop).extent for loop in (tiles, panel)]
    sch.reorder(*outer, tiles, panel, pixel, channel, *inner)
    block = sch.fuse(*outer, tiles, panel)
    sch.bind(block, "blockIdx.x")
    return block, counts


def _flatten_pixels(sch: Schedule, block: SBlockRV, lead: int, kept: int) -> None:
    """Make one axis of all axes of ``block`` but ``lead`` at the front and ``kept`` at the end."""
    sizes = [var.dom.extent for var in sch.get(block).iter_vars]
    end = len(sizes) - kept

    def flat(*at: tirx.Var) -> list[tvm.ir.Expr]:
        index = at[lead]
        for var, size in zip(at[lead + 1 : end], sizes[lead + 1 : end], strict=True):
            index = index * size + var
        return [*at[:lead], index, *at[end:]]

    sch.transform_block_layout(block, tirx.IndexMap.from_func(flat, ndim=len(sizes), index_dtype="int64"))


def keep_in_shared(
    sch: Schedule, anchor: SBlockRV, block: LoopRV, scope: str, pixels: int, pitch: int, rows: int
) -> None:
    """Compute ``anchor`` under ``block``, in tiles of shared memory: whole ones, though the last has fewer pixels.

    Parameters
    ----------
    pitch : int
        Elements from a row to the next.
    rows : int
        Rows to make room for, ``pixels`` at least.
    """
    rank = len(sch.get(anchor).writes[0].source.shape)

    def tiled(*at: tirx.Var) -> list[tvm.ir.Expr]:
        *outer, pixel, channel = at
        return [*outer, pixel // pixels, pixel % pixels, channel]

    index = tirx.IndexMap.from_func(tiled, ndim=rank, index_dtype="int64")
    sch.transform_layout(anchor, ("write", 0), index, assume_injective_transform=True)
    sch.compute_at(anchor, block, preserve_unit_loops=True)
    sch.set_scope(anchor, 0, scope)
    sch.storage_align(anchor, 0, rank - 1, pitch, 0)
    if rows > pixels:
        sch.storage_align(anchor, 0, rank - 2, rows * pitch, 0)


def call_in_place(
    sch: Schedule,
    anchor: SBlockRV,
    call: tvm.ir.Expr,
    place: Sequence[tvm.ir.Expr],
    sizes: tuple[int, int],
    threads: int,
) -> None:
    """Put ``call``, by all threads, in place of the loops of the sums.

    Parameters
    ----------
    place : sequence of Expr
        Of the tile: its index along every axis but the last two, and its first channel.
    sizes : tuple of int
        Pixels and channels of a tile.
    """
    sums = sch.get(anchor)
    *outer, channel = place
    pixels, channels = sizes
    spans = [*((low, 1) for low in outer), (0, pixels), (channel, channels)]
    written = TensorRegion(
        sums.writes[0].source, [Range.from_min_extent(low, n) for low, n in spans], sums.writes[0].ty
    )
    body = SBlock(
        [],
        [TensorRegion(r.source, [Range(0, n) for n in r.source.shape], r.ty) for r in sums.reads[:2]],
        [written],
        sums.name_hint,
        tirx.Evaluate(call),
        annotations=sums.annotations,
    )
    called = tirx.For(
        tirx.Var("thread", "int64"),
        tirx.IntImm("int64", 0),
        tirx.IntImm("int64", threads),
        tirx.ForKind.THREAD_BINDING,
        SBlockRealize([], True, body),
        tirx.IterVar(None, tirx.Var("", "int64"), tirx.IterVar.ThreadIndex, "threadIdx.x"),
    )
    sch.state.replace(sch.get_sref(sch.get_loops(anchor)[1]), called)


def share_tile(sch: Schedule, last: SBlockRV, panel: int, threads: int) -> None:
    """Divide what is made of the sums of a tile among the threads, in vectors if possible."""
    _, *loops = sch.get_loops(last)
    if len(loops) == 2 and panel % 4 == 0 and is_plain(sch, last):
        loops[-1], lane = sch.split(loops[-1], [None, 4])
        sch.vectorize(lane)
    _, thread = sch.split(sch.fuse(*loops), [None, threads])
    sch.bind(thread, "threadIdx.x")
