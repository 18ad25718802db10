"""Where along its last axis a block stores something else, as a concatenation does.

Code that chooses for every value what it is copied from is slow: vectors fall apart into scalars, and the last of many
parts is found at the end of as many comparisons. Cut at its seams, a concatenation is one plain loop for each part.
"""

import itertools
from collections.abc import Iterator

import tvm.sym
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from .loops import operands


def seams_of(sch: Schedule, block: SBlockRV) -> list[int]:
    """The positions along the last axis of ``block``, in order, at which a condition on that axis changes."""
    variables = sch.get(block).iter_vars
    value = getattr(sch.get(block).body, "value", None)
    if not variables or value is None or not isinstance(variables[-1].dom.extent, tirx.IntImm):
        return []
    extent = int(variables[-1].dom.extent)
    return sorted({at for at in _changes(value, variables[-1].var) if 0 < at < extent})


def _changes(expr: tvm.ir.Expr, axis: tirx.Var) -> Iterator[int]:
    if isinstance(expr, tirx.LT | tirx.LE | tirx.GT | tirx.GE):
        below = isinstance(expr, tirx.LT | tirx.LE)
        difference = expr.a - expr.b if below else expr.b - expr.a
        at = _first_change(difference, axis, strict=isinstance(expr, tirx.LT | tirx.GT))
        if at is not None:
            yield at
    for operand in operands(expr):
        yield from _changes(operand, axis)


def _first_change(difference: tvm.ir.Expr, axis: tirx.Var, *, strict: bool) -> int | None:
    """The first position at which ``difference < 0`` (``strict``) or ``<= 0`` is another truth than just before.

    ``None`` where that is no comparison of the axis alone with a number.
    """
    linear = tvm.sym.detect_linear_equation(difference, [axis])
    if len(linear) != 2 or not all(isinstance(term, tirx.IntImm) for term in linear):
        return None
    slope, start = map(int, linear)
    if slope == 1:
        return -start if strict else 1 - start
    return start + strict if slope == -1 else None


def cut_at_seams(sch: Schedule, block: SBlockRV, row: LoopRV, seams: list[int]) -> None:
    """Make of ``row``, the loop that walks along the last axis of ``block``, one loop for each piece.

    An iteration of ``row`` covers so many positions that every seam lies between two.
    """
    step = int(sch.get(block).iter_vars[-1].dom.extent) // int(sch.get(row).extent)
    pieces = [(end - begin) // step for begin, end in itertools.pairwise([0, *seams])]
    sch.loop_partition(row, [*pieces, None])
