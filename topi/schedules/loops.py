"""Loop transformations and questions that several schedules share."""

import math
from collections.abc import Collection, Iterator

import tvm
from tvm import tirx
from tvm.s_tir import Schedule, ScheduleError
from tvm.s_tir.schedule import LoopRV, SBlockRV


def top_blocks(sch: Schedule) -> list[SBlockRV]:
    """The blocks of the function, in program order; none where it is written as opaque statements."""
    try:
        root = sch.get_sblock("root")
    except ScheduleError:
        return []
    return sch.get_child_blocks(root)


def anchors_of(sch: Schedule) -> list[SBlockRV]:
    """The blocks of our operators, in program order: none, one, or those of a chain."""
    return [block for block in top_blocks(sch) if "fastconv.op" in sch.get(block).annotations]


def anchor_of(sch: Schedule) -> SBlockRV | None:
    """The first of `anchors_of`, if there is one."""
    return next(iter(anchors_of(sch)), None)


def stages_of(sch: Schedule) -> dict[str, SBlockRV]:
    """The blocks that an operator's schedule places itself, by the name of their stage."""
    blocks = top_blocks(sch)
    named = {sch.get(block).annotations.get("fastconv.stage"): block for block in blocks}
    return {str(name): block for name, block in named.items() if name is not None}


def is_reduction(sch: Schedule, block: SBlockRV) -> bool:
    """Whether ``block`` has a reduction axis."""
    return any(var.iter_type == tirx.IterVar.CommReduce for var in sch.get(block).iter_vars)


def volume(sch: Schedule, block: SBlockRV) -> tuple[int, int]:
    """How often ``block`` is executed: (number of symbolic axes, product of the known ones)."""
    extents = [var.dom.extent for var in sch.get(block).iter_vars]
    known = [int(extent) for extent in extents if isinstance(extent, tirx.IntImm)]
    return len(extents) - len(known), math.prod(known)


def subexpressions(expr: tvm.ir.Expr | None) -> Iterator[tvm.ir.Expr]:
    """``expr`` and everything that it is computed from, except for the positions of loads."""
    left = [] if expr is None else [expr]
    while left:
        part = left.pop()
        yield part
        names = ("a", "b", "value", "condition", "true_value", "false_value")
        operands = [*(getattr(part, name, None) for name in names), *getattr(part, "args", ())]
        left += [operand for operand in operands if isinstance(operand, tvm.ir.Expr)]


def is_dear(expr: tvm.ir.Expr | None) -> bool:
    """Whether ``expr`` evaluates more than loads and arithmetic: an exponential, a root, a division."""
    return any(
        isinstance(part, tirx.Div) or (isinstance(part, tvm.ir.Call) and part.op.name != "prim.if_then_else")
        for part in subexpressions(expr)
    )


def inline_elementwise(sch: Schedule, kept: Collection[str] = ()) -> None:
    """Inline every element-wise block whose one reader evaluates it no more often than it is evaluated now.

    Cheap arithmetic may be evaluated again, behind a broadcast say; the result of an anchor never is. Blocks whose
    names are ``kept`` stay.
    """
    anchor = anchor_of(sch)
    results = _behind(sch, anchor) if anchor is not None else set()
    for block in reversed(top_blocks(sch)):
        readers = sch.get_consumers(block)
        name = sch.get(block).name_hint
        if (
            name in kept
            or len(readers) != 1
            or is_reduction(sch, block)
            or not {"fastconv.op", "fastconv.stage"}.isdisjoint(sch.get(block).annotations)
        ):
            continue
        again = volume(sch, block) != volume(sch, readers[0])
        if again and (
            name in results
            or is_reduction(sch, readers[0])
            or is_dear(getattr(sch.get(block).body, "value", None))
        ):
            continue
        try:
            sch.compute_inline(block)
        except (
            ScheduleError
        ):  # its indices are no plain axes, as in an adaptive pooling; it keeps its own loops
            continue


def _behind(sch: Schedule, block: SBlockRV) -> set[str]:
    names: set[str] = set()
    for reader in sch.get_consumers(block):
        names |= {sch.get(reader).name_hint} | _behind(sch, reader)
    return names


def result_of(sch: Schedule, block: SBlockRV) -> str:
    """Name of the last block behind ``block`` that is computed element by element."""
    behind = [reader for reader in sch.get_consumers(block) if _is_epilogue(sch, block, reader)]
    return result_of(sch, behind[-1]) if behind else sch.get(block).name_hint


def _is_epilogue(sch: Schedule, block: SBlockRV, reader: SBlockRV) -> bool:
    """Whether ``reader`` goes through the values of ``block`` once; a padding goes through more."""
    if is_reduction(sch, reader) or "fastconv.stage" in sch.get(reader).annotations:
        return False
    return volume(sch, reader) <= volume(sch, block)


def stages_before(sch: Schedule, anchor: SBlockRV) -> dict[str, SBlockRV]:
    """The stages in front of ``anchor`` alone."""
    found = {sch.get(block).annotations.get("fastconv.stage"): block for block in sch.get_producers(anchor)}
    return {str(name): block for name, block in found.items() if name is not None}


def vectorize_innermost(sch: Schedule, block: SBlockRV, lanes: int) -> LoopRV | None:
    """Vectorise the last loop of ``block`` where it is a multiple of some vector; return the loop around it."""
    loop = sch.get_loops(block)[-1]
    extent = sch.get(loop).extent
    if not isinstance(extent, tirx.IntImm):
        return None
    while lanes > 1 and int(extent) % lanes:
        lanes //= 2
    if lanes == 1:
        return None
    outer, inner = sch.split(loop, [None, lanes])
    sch.vectorize(inner)
    return outer
