"""Schedule of several operators in one function: each is computed strip by strip, just before the next one reads it.

The last operator keeps its own template, whose outermost loop runs over strips of output rows. Each of the others is
moved under that loop, where it computes the rows that its reader needs, those above and below a strip included, and is
laid out there by its own template. What lies between two operators never leaves the cache.
"""

from tvm.s_tir import Schedule

from ...machine import Machine
from ..loops import anchors_of, inline_elementwise, result_of, stages_before
from ..registry import Site, register_chain, template_of


def schedule_chain(sch: Schedule, machine: Machine) -> None:
    """Schedule a function of several anchors, each of which reads the result of the one before it."""
    results = [result_of(sch, anchor) for anchor in anchors_of(sch)]
    inline_elementwise(sch, kept=[*results, *(sch.get(anchor).name_hint for anchor in anchors_of(sch))])
    pairs = zip(anchors_of(sch), map(sch.get_sblock, results), strict=True)
    *chain, last = [
        Site(sch, anchor, result, stages_before(sch, anchor), machine) for anchor, result in pairs
    ]
    outermost = template_of(machine.kind, last.op).schedule(last)
    for site in reversed(chain):
        sch.compute_at(site.last, outermost, preserve_unit_loops=True)
        place = template_of(machine.kind, site.op).place
        if place is None:
            raise LookupError(f"operator {site.op} has no template for a place in a chain")
        place(site, outermost)


register_chain("llvm", schedule_chain)
