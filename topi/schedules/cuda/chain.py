"""Schedule of a depthwise convolution or fixed stencils and the 1×1 convolution behind, as one kernel.

A block makes a patch of pixels, by some of the outputs. Channel slice by channel slice, its threads compute what lies
between the stages into shared memory, which nobody else sees, and then add its products with the weights to sums in
registers, as in `gemm`. A thread's pixels lie below each other, so that those of a warp read from different banks.
"""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ...machine import Machine
from ..loops import anchors_of, inline_elementwise, is_reduction, result_of, stages_before
from ..registry import Site, register_chain
from .chain_knobs import VECTOR, GpuChainKnobs
from .gemm import keep_vectors_apart
from .window import fill_registers, hold_window


def schedule_chain(sch: Schedule, machine: Machine) -> None:
    """Schedule a function of two anchors, the second of which reads what the first one makes."""
    first, anchor = anchors_of(sch)
    result = result_of(sch, anchor)
    inline_elementwise(sch, kept=[result, *(sch.get(block).name_hint for block in (first, anchor))])
    site = Site(sch, anchor, sch.get_sblock(result), stages_before(sch, anchor), machine)
    between, knobs = site.stages["between"], site.knobs(GpuChainKnobs)
    while behind := [block for block in sch.get_producers(between) if not _is_anchor(sch, block)]:
        sch.compute_inline(behind[0])
    weights = _schedule_product(site, between, knobs)
    _copy_weights(sch, weights, knobs)
    _schedule_first(sch, first, between, knobs)


def _is_anchor(sch: Schedule, block: SBlockRV) -> bool:
    return "fastconv.op" in sch.get(block).annotations


def _schedule_product(site: Site, between: SBlockRV, knobs: GpuChainKnobs) -> SBlockRV:
    """Lay out the sums, and place what they read; returns the copy of the weights in shared memory."""
    sch, anchor = site.sch, site.anchor
    sch.set_scope(between, 0, "shared")
    weights = sch.cache_read(anchor, 1, "shared")
    fragments = [sch.cache_read(anchor, place, "local") for place in (0, 1)]
    _bind_outputs(site, knobs)
    rank = len(sch.get(anchor).iter_vars)
    _, y, x, o, *kernel, channel = sch.get_loops(anchor)[-rank:]
    step, quad, term = sch.split(channel, [None, knobs.slice_c // VECTOR, VECTOR])
    sch.reorder(step, *kernel, quad, term, y, x, o)
    for fragment, at in zip(fragments, (quad, term), strict=True):
        sch.compute_at(fragment, at, preserve_unit_loops=True)
        _copy_vectors(sch, fragment)
    sch.compute_at(weights, kernel[0] if kernel else step, preserve_unit_loops=True)
    sch.compute_at(between, step, preserve_unit_loops=True)
    init = sch.decompose_reduction(anchor, step)
    for loop in (term, y, x, o, *sch.get_loops(init)[-3:]):
        sch.unroll(loop)
    return weights


def _bind_outputs(site: Site, knobs: GpuChainKnobs) -> None:
    """Share the outputs among blocks and threads, each of which sums up its own in registers."""
    sch, anchor = site.sch, site.anchor
    n, y, x, o = sch.get_loops(site.last)
    patch_y, group, pixel = sch.split(y, [None, knobs.groups_h, knobs.thread_h])
    patch_x, column = sch.split(x, [None, knobs.tile_w])
    vectors = knobs.thread_o // VECTOR
    panel, outputs, vector, lane = sch.split(o, [None, knobs.tile_o // knobs.thread_o, vectors, VECTOR])
    sch.reorder(n, patch_y, patch_x, panel, group, column, outputs, pixel, vector, lane)
    sch.vectorize(lane)
    sch.set_scope(anchor, 0, "local")
    sch.compute_at(anchor, outputs, preserve_unit_loops=True)
    sch.bind(sch.fuse(n, patch_y, patch_x, panel), "blockIdx.x")
    sch.bind(sch.fuse(group, column, outputs), "threadIdx.x")
    sch.unroll(pixel)
    sch.unroll(vector)


def _copy_vectors(sch: Schedule, fragment: SBlockRV) -> None:
    """Of what a thread multiplies: registers, which have no index, so that all is unrolled."""
    *lead, values = sch.get_loops(fragment)[-len(sch.get(fragment).iter_vars) :]
    vectors, lane = sch.split(values, [None, VECTOR])
    sch.vectorize(lane)
    for loop in (*lead, vectors):
        sch.unroll(loop)


def _copy_weights(sch: Schedule, weights: SBlockRV, knobs: GpuChainKnobs) -> None:
    """In vectors; those of a thread lie apart, so that a warp reads neighbouring ones."""
    row, column = sch.get_loops(weights)[-2:]
    _, thread, lane = sch.split(sch.fuse(row, column), [None, knobs.threads, VECTOR])
    sch.bind(thread, "threadIdx.x")
    sch.vectorize(lane)
    keep_vectors_apart(sch, weights, knobs.tile_o, knobs.thread_o)


def _schedule_first(sch: Schedule, first: SBlockRV, between: SBlockRV, knobs: GpuChainKnobs) -> None:
    """Lay out the first stage: a thread makes a few pixels of a vector of channels, by all their kernels."""
    rank = len(sch.get(between).iter_vars)
    _, y, x, *kernel, channel = sch.get_loops(between)[-rank:]
    patch, run = sch.split(x, [None, knobs.run])
    vector, lane = sch.split(channel, [None, VECTOR])
    sch.reorder(y, patch, vector, run, *kernel, lane)
    sch.vectorize(lane)
    for loop in (run, *kernel):
        sch.unroll(loop)
    sch.set_scope(first, 0, "local")
    sch.compute_at(first, vector, preserve_unit_loops=True)
    window = stages_before(sch, first)["window"]
    if sums := is_reduction(sch, first):
        outermost = fill_registers(sch, first, window, VECTOR)
    else:
        _apply_stencils(sch, first, window)
    _, thread = sch.split(sch.fuse(y, patch, vector), [None, knobs.threads])
    sch.bind(thread, "threadIdx.x")
    sch.storage_align(between, 0, 2, 8, VECTOR)
    if sums:
        sch.decompose_reduction(first, outermost)


def _apply_stencils(sch: Schedule, first: SBlockRV, window: SBlockRV) -> None:
    """Lay out the stencils of a thread, which stand at their place, and what they read."""
    around, *loops, lane = sch.get_loops(first)[-len(sch.get(first).iter_vars) :]
    sch.vectorize(lane)
    for loop in loops:
        sch.unroll(loop)
    sch.compute_at(window, around, preserve_unit_loops=True)
    if not hold_window(sch, window, VECTOR):
        sch.compute_inline(window)


register_chain("cuda", schedule_chain)
