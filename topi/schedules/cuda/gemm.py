"""Matrix products on a GPU: a tile of the result for each block, in the registers of its threads.

Both sides pass through shared memory, a step at a time. While a step is multiplied, the next one is on its way into
registers (``software_pipeline``). A thread's rows and columns are neighbours, so that it stores vectors and epilogues
read them; in shared memory they lie apart, as vectors of four, so that the threads of a warp read without conflicts.
"""

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ..registry import Site, Template, register
from .gemm_knobs import VECTOR, GemmKnobs
from .generic import bind_flat

PIPELINE_STAGES = [0, 0, 0, 0, 1]
"""Of what stands in a step: both sides into registers and on into shared memory, one step ahead; the products."""

PIPELINE_ORDER = [0, 3, 1, 4, 2]
"""Loads are begun before the products, and stored behind them."""


def schedule_gemm(site: Site) -> None:
    """Lay out the sums of ``matrix_product`` and what stands behind them."""
    tile_products(site, site.knobs(GemmKnobs))


def tile_products(site: Site, knobs: GemmKnobs, stores: bool = False) -> None:
    """Lay out the sums of ``matrix_product``; with ``stores``, they are kept for another kernel to read."""
    sch, anchor = site.sch, site.anchor
    sides = [sch.cache_read(anchor, place, "shared") for place in (0, 1)]
    for name in ("left", "right"):
        sch.compute_inline(site.stages[name])
    fragments = [sch.cache_read(anchor, place, "local") for place in (0, 1)]
    *outer, m, o, step, term = sch.get_loops(anchor)
    block_m, thread_m, row = sch.split(m, [None, knobs.tile_m // knobs.thread_m, knobs.thread_m])
    block_o, thread_o, column = sch.split(o, [None, knobs.tile_o // knobs.thread_o, knobs.thread_o])
    sch.reorder(*outer, block_o, block_m, thread_m, thread_o, step, term, row, column)
    thread = sch.fuse(thread_m, thread_o)
    sch.bind(thread, "threadIdx.x")
    _bind_blocks(sch, [*outer, block_o, block_m])
    _store_sums(site, knobs, thread, len(outer) - (knobs.slices > 1), stores)
    for fragment in fragments:
        sch.compute_at(fragment, term, preserve_unit_loops=True)
        vectors, lane = sch.split(sch.get_loops(fragment)[-1], [None, VECTOR])
        sch.vectorize(lane)
        sch.unroll(vectors)
    tiles = ((knobs.tile_m, knobs.thread_m), (knobs.tile_o, knobs.thread_o))
    for side, (tile, mine) in zip(sides, tiles, strict=True):
        sch.compute_at(side, step, preserve_unit_loops=True)
        keep_vectors_apart(sch, side, tile, mine)
    _copy_rows(sch, sides[0], knobs)
    _copy_columns(sch, sides[1], knobs)
    init = sch.decompose_reduction(anchor, step)
    for block in (init, anchor):
        for loop in sch.get_loops(block)[-2:]:
            sch.unroll(loop)
    sch.unroll(term)
    _pipeline(sch, step, sides)


def _bind_blocks(sch: Schedule, loops: list[LoopRV]) -> None:
    """One grid: its first axis, which alone takes more than 65535 blocks, of as many loops as TVM can tell apart.

    Where their numbers are symbolic, the rows of the last loop are that axis alone, and what is in front the others.
    """
    if all(isinstance(sch.get(loop).extent, tirx.IntImm) for loop in loops):
        sch.bind(sch.fuse(*loops), "blockIdx.x")
        return
    *outer, columns, rows = loops
    sch.bind(rows, "blockIdx.x")
    sch.bind(columns, "blockIdx.y")
    if outer:
        sch.bind(sch.fuse(*outer) if len(outer) > 1 else outer[0], "blockIdx.z")


def _store_sums(site: Site, knobs: GemmKnobs, thread: LoopRV, lead: int, stores: bool) -> None:
    """Store the sums of a thread through the epilogues, or as they are: slices, which another kernel adds up."""
    sch, last = site.sch, site.last
    if stores or (knobs.slices == 1 and _is_a_vector(sch, last, lead)):
        last = sch.cache_write(site.anchor, 0, "local")
    elif knobs.slices == 1:
        rows_and_columns = len(sch.get(last).iter_vars) - lead
        _flatten_rows(sch, last, lead, rows_and_columns - 1)
        sch.set_scope(site.anchor, 0, "local")
    else:
        add_slices(sch, site.stages["total"])
        last = sch.cache_write(site.anchor, 0, "local")
    sch.reverse_compute_at(last, thread, preserve_unit_loops=True)
    row, column = sch.get_loops(last)[-2:]
    vectors, lane = sch.split(column, [None, VECTOR])
    sch.vectorize(lane)
    sch.unroll(vectors)
    sch.unroll(row)


def _is_a_vector(sch: Schedule, block: SBlockRV, lead: int) -> bool:
    """Whether there is one row or one column: TVM would leave out its index, and so forget which threads have it."""
    *rows, columns = [var.dom.extent for var in sch.get(block).iter_vars][lead:]
    return any(
        all(isinstance(size, tirx.IntImm) and int(size) == 1 for size in sizes) for sizes in (rows, [columns])
    )


def _flatten_rows(sch: Schedule, block: SBlockRV, lead: int, rows: int) -> None:
    """Make one axis of the ``rows`` axes behind ``lead`` others."""
    sizes = [var.dom.extent for var in sch.get(block).iter_vars]

    def flat(*at: tirx.Var) -> list[tvm.ir.Expr]:
        index = at[lead]
        for var, size in zip(at[lead + 1 : lead + rows], sizes[lead + 1 : lead + rows], strict=True):
            index = index * size + var
        return [*at[:lead], index, *at[lead + rows :]]

    sch.transform_block_layout(block, tirx.IndexMap.from_func(flat, ndim=len(sizes), index_dtype="int64"))


def add_slices(sch: Schedule, total: SBlockRV) -> None:
    """A thread for each result: the sum over all slices, and the epilogues."""
    readers = sch.get_consumers(total)
    last = readers[0] if readers else total
    loops = sch.get_loops(last)
    bind_flat(sch, loops if readers else loops[:-1])
    if readers:
        sch.compute_at(total, sch.get_loops(last)[-1], preserve_unit_loops=True)
        sch.set_scope(total, 0, "local")


def keep_vectors_apart(sch: Schedule, side: SBlockRV, tile: int, mine: int) -> None:
    """Store the last axis of ``side`` so that a warp reads neighbours: of ``mine`` in a row, each vector in turn."""
    if mine == VECTOR:
        return
    rank = len(sch.get(side).iter_vars)

    def apart(*at: tirx.Var) -> list[tvm.ir.Expr]:
        *outer, i = at
        return [*outer, i // tile, i % mine // VECTOR, i % tile // mine, i % VECTOR]

    sch.transform_layout(side, ("write", 0), tirx.IndexMap.from_func(apart, ndim=rank, index_dtype="int64"))


def _copy_rows(sch: Schedule, side: SBlockRV, knobs: GemmKnobs) -> None:
    """The left side lies in memory along its terms: a thread loads four of them, and stores them apart."""
    term, row = sch.get_loops(side)[-2:]
    sch.reorder(row, term)
    terms, lane = sch.split(term, [None, VECTOR])
    _, thread = sch.split(sch.fuse(row, terms), [None, knobs.threads])
    sch.bind(thread, "threadIdx.x")
    sch.vectorize(lane)
    rank = len(sch.get(side).writes[0].source.shape)
    spread = 3 if knobs.thread_m > VECTOR else 0
    sch.storage_align(side, 0, rank - 2 - spread, 32, VECTOR)


def _copy_columns(sch: Schedule, side: SBlockRV, knobs: GemmKnobs) -> None:
    """The right side lies in memory along its columns."""
    term, column = sch.get_loops(side)[-2:]
    _, thread, lane = sch.split(sch.fuse(term, column), [None, knobs.threads, VECTOR])
    sch.bind(thread, "threadIdx.x")
    sch.vectorize(lane)


def _pipeline(sch: Schedule, step: LoopRV, sides: list[SBlockRV]) -> None:
    sch.annotate(step, "software_pipeline_stage", PIPELINE_STAGES)
    sch.annotate(step, "software_pipeline_order", PIPELINE_ORDER)
    for side in sides:
        sch.annotate(side, "tirx.manifest_shared_memory_local_stage", 1)


register("cuda", ["conv2d", "dense", "batch_matmul"], Template(schedule_gemm))
