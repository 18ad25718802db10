"""Schedule of several operators in one function: each is computed strip by strip, just before the next one reads it.

The last operator keeps its own template, whose outermost loop runs over strips of output rows. Each of the others is
moved under that loop, where it computes the rows that its reader needs, those above and below a strip included, and is
laid out there by its own template. What lies between two operators never leaves the cache.
"""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ...machine import Machine
from ..loops import anchors_of, inline_elementwise, is_reduction, volume
from ..registry import Site, template_of


def schedule_chain(sch: Schedule, machine: Machine) -> None:
    """Schedule a function of several anchors, each of which reads the result of the one before it."""
    results = [_result(sch, anchor) for anchor in anchors_of(sch)]
    inline_elementwise(sch, kept=[*results, *(sch.get(anchor).name_hint for anchor in anchors_of(sch))])
    pairs = zip(anchors_of(sch), map(sch.get_sblock, results), strict=True)
    *chain, last = [Site(sch, anchor, result, _stages(sch, anchor), machine) for anchor, result in pairs]
    outermost = template_of(machine.kind, last.op).schedule(last)
    for site in reversed(chain):
        sch.compute_at(site.last, outermost, preserve_unit_loops=True)
        place = template_of(machine.kind, site.op).place
        if place is None:
            raise LookupError(f"operator {site.op} has no template for a place in a chain")
        place(site, outermost)


def _result(sch: Schedule, block: SBlockRV) -> str:
    """Name of the last block behind ``block`` that is computed element by element."""
    behind = [reader for reader in sch.get_consumers(block) if _is_epilogue(sch, block, reader)]
    return _result(sch, behind[-1]) if behind else sch.get(block).name_hint


def _is_epilogue(sch: Schedule, block: SBlockRV, reader: SBlockRV) -> bool:
    """Whether ``reader`` goes through the values of ``block`` once; a padding goes through more."""
    if is_reduction(sch, reader) or "fastconv.stage" in sch.get(reader).annotations:
        return False
    return volume(sch, reader) <= volume(sch, block)


def _stages(sch: Schedule, anchor: SBlockRV) -> dict[str, SBlockRV]:
    """The stages in front of ``anchor`` alone."""
    found = {sch.get(block).annotations.get("fastconv.stage"): block for block in sch.get_producers(anchor)}
    return {str(name): block for name, block in found.items() if name is not None}
