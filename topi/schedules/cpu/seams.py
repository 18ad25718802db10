"""Where along its last axis a block stores something else, as a concatenation does.

Code that chooses for every value what it is copied from is slow: vectors fall apart into scalars, and the last of many
parts is found at the end of as many comparisons. Cut at its seams, a concatenation is one plain loop for each part.
"""

import itertools

import tvm.sym
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ..loops import subexpressions

MAX_SEAMS = 256
"""TVM simplifies all conditions once for each piece: 256 take it 6 s instead of 3, 600 take 55 s instead of 11."""


def seams_of(sch: Schedule, block: SBlockRV) -> list[int]:
    """The positions along the last axis of ``block``, in order, at which a condition on that axis changes.

    None where there are more than `MAX_SEAMS`.
    """
    variables = sch.get(block).iter_vars
    value = getattr(sch.get(block).body, "value", None)
    if not variables or not isinstance(variables[-1].dom.extent, tirx.IntImm):
        return []
    axis, extent = variables[-1].var, int(variables[-1].dom.extent)
    changes = {_first_change(part, axis) for part in subexpressions(value)}
    seams = sorted(at for at in changes if at is not None and 0 < at < extent)
    return seams if len(seams) <= MAX_SEAMS else []


def _first_change(expr: tvm.ir.Expr, axis: tirx.Var) -> int | None:
    """The first position at which ``expr`` is another truth than just before.

    ``None`` where it is no comparison of the axis alone with a number.
    """
    if not isinstance(expr, tirx.LT | tirx.LE | tirx.GT | tirx.GE):
        return None
    strict = isinstance(expr, tirx.LT | tirx.GT)
    difference = expr.a - expr.b if isinstance(expr, tirx.LT | tirx.LE) else expr.b - expr.a
    linear = tvm.sym.detect_linear_equation(difference, [axis])
    if len(linear) != 2 or not all(isinstance(term, tirx.IntImm) for term in linear):
        return None
    slope, start = map(int, linear)
    if slope == 1:  # below zero, or at most zero, until there
        return -start if strict else 1 - start
    return start + strict if slope == -1 else None


def cut_at_seams(sch: Schedule, block: SBlockRV, row: LoopRV, seams: list[int]) -> None:
    """Make of ``row``, the loop that walks along the last axis of ``block``, one loop for each piece.

    An iteration of ``row`` covers so many positions that every seam lies between two.
    """
    step = int(sch.get(block).iter_vars[-1].dom.extent) // int(sch.get(row).extent)
    pieces = [(end - begin) // step for begin, end in itertools.pairwise([0, *seams])]
    sch.loop_partition(row, [*pieces, None])
