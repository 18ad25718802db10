"""Schedule of the depthwise convolution of bits: rows in parallel, vectors along the words of a whole row."""

from ..loops import vectorize_innermost, volume
from ..registry import Site, Template, register
from .generic import MIN_PARALLEL_WORK

ROWS = 8
"""Output rows of a task: its window holds few rows twice, and it is large enough for a thread."""


def _schedule_bitserial_depthwise(site: Site) -> None:
    """Schedule both forms.

    The anchor is a vector of decisions, or of every digit, in rows of whole vectors; stage ``rows`` holds one row of an
    output, which the last block makes the result of.
    """
    sch, counts, stages, machine = site.sch, site.anchor, site.stages, site.machine
    rows = stages["rows"]
    last = sch.get_consumers(rows)[0]
    n, y, *_ = sch.get_loops(last)
    task, row = sch.split(y, [None, ROWS])
    task = sch.fuse(n, task)
    symbolic, known = volume(sch, last)
    if symbolic or known >= MIN_PARALLEL_WORK:
        sch.parallel(task)
    vectorize_innermost(sch, last, machine.lanes)
    sch.compute_at(rows, row, preserve_unit_loops=True)
    *digits, words = sch.get_loops(rows)[4:]
    chunk, lane = sch.split(words, [None, machine.lanes])
    sch.reorder(chunk, *digits, lane)
    sch.annotate(chunk, "pragma_loop_partition_hint", 1)
    sch.vectorize(lane)
    sch.compute_at(counts, chunk, preserve_unit_loops=True)
    sch.vectorize(sch.get_loops(counts)[-1])
    for block in (rows, counts):
        for digit in sch.get_loops(block)[-1 - len(digits) : -1]:
            sch.unroll(digit)
    for part in reversed([block for name, block in stages.items() if name.startswith("part")]):
        sch.compute_at(part, chunk, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(part)[-1])
    window = stages["window"]
    sch.compute_at(window, task, preserve_unit_loops=True)
    sch.annotate(sch.get_loops(window)[-2], "pragma_loop_partition_hint", 1)


register("llvm", ["bitserial_depthwise_conv2d"], Template(_schedule_bitserial_depthwise))
