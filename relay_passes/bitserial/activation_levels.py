"""Does a value of the graph hold few levels, and from what is it decided? All the ways in which people write it.

Two levels: ``sign(x)`` (where x is never negative, 0 and 1), ``where(x >= t, a, b)`` with any comparison,
``(x >= t).float() · 2 − 1``, ``(x >= t).float() − (x < t).float()``. More: ``round(clip(x · n))``, before or after
scaling and shifting. Operators that only move values, such as padding by reflection, leave the levels what they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import tvm_ffi
from tvm import relax

from tvm_fastconv.topi.bitpack import Grid

from ..graph.near_miss import NearMiss
from ..graph.rewrite import Definitions, op_name
from .decisions import Decision
from .rounded_values import rounded_value
from .two_levels import TwoLevels, two_levels
from .zeros import MOVES, never_negative


@dataclass(frozen=True)
class ActivationLevels:
    """``value = scale · (step · q + offset)``.

    Attributes
    ----------
    source : Expr
        What q is computed from: float32, or bool.
    how : Decision or Grid
        q is the bit of the decision, or the level on the grid.
    step, offset : int
    scale : float
    """

    source: relax.Expr
    how: Decision | Grid
    step: int
    offset: int
    scale: float

    @property
    def highest(self) -> int:
        """The largest q."""
        return self.how.high - self.how.low if isinstance(self.how, Grid) else 1

    @property
    def digits(self) -> int:
        """Binary digits of q."""
        return self.how.digits if isinstance(self.how, Grid) else 1


Found = ActivationLevels | NearMiss | None


def activation_levels(graph: Definitions, expr: relax.Expr) -> Found:
    """The levels of ``expr``; ``None`` where it is no few-level value."""
    found = _levels(graph, expr)
    if not isinstance(found, ActivationLevels):
        return found
    alike = tvm_ffi.structural_equal(found.source.ty.shape, expr.ty.shape)
    if not alike or found.source.ty.dtype not in ("float32", "bool"):
        return NearMiss(f"its input is decided from {found.source.ty}, not from as many float32 values")
    return found


def _levels(graph: Definitions, expr: relax.Expr) -> Found:
    value = graph.definition(expr)
    if isinstance(value, relax.TupleGetItem):
        value = graph.definition(value.tuple_value)
    name = op_name(value)
    if name == "sign":
        return _sign(graph, value)
    if name == "concat":
        return _joined(graph, expr, value)
    if name in MOVES and getattr(value.attrs, "method", "nearest_neighbor") == "nearest_neighbor":
        return _moved(expr, _with_border(value, _levels(graph, value.args[0])))
    if (pair := two_levels(graph, expr)) is not None:
        return _decided(graph, pair)
    if name in ("add", "subtract") and all(two_levels(graph, arg) for arg in value.args):
        return NearMiss("its input is made of two decisions, which may have three levels")
    rounded = rounded_value(graph, expr)
    on_grid = None if rounded is None else rounded.grid()
    if rounded is None or on_grid is None or isinstance(on_grid, NearMiss):
        return on_grid if isinstance(on_grid, NearMiss) else None
    grid, step, offset = on_grid
    return ActivationLevels(rounded.source, grid, step, offset, rounded.gain / step)


def _sign(graph: Definitions, call: relax.Call) -> ActivationLevels | None:
    """0 and 1, or nothing: `ApproximateSign` has rewritten the others."""
    if not never_negative(graph, call.args[0]):
        return None
    positive = Decision(np.zeros(1), np.ones(1, bool), np.zeros(1, bool))
    return ActivationLevels(call.args[0], positive, 2, 0, 0.5)


def _decided(graph: Definitions, pair: TwoLevels) -> Found:
    """Two levels in units of half their distance: neighbouring odd or even integers, or this is no grid."""
    if pair.yes == pair.no or not np.isfinite([pair.yes, pair.no]).all():
        return None
    high, low = max(pair.yes, pair.no), min(pair.yes, pair.no)
    half = (high - low) / 2
    offset = low / half
    if abs(offset - round(offset)) > 1e-6 or abs(offset) > 2**15:
        return NearMiss(f"the levels {low:g} and {high:g} are no multiples of half their distance")
    return ActivationLevels(*pair.decision(graph), 2, round(offset), half)


def _moved(expr: relax.Expr, found: Found) -> Found:
    """The levels ``found`` of an argument, read again from the values ``expr`` that they were moved to."""
    if not isinstance(found, ActivationLevels):
        return found
    how = found.how
    if isinstance(how, Grid):
        # value = scale · (step · q + offset), and q + low is what is rounded
        shift, scale = how.low - found.offset / found.step, 1 / (found.scale * found.step)
        again: Decision | Grid = replace(how, divisor=1.0, scale=scale, shift=shift)
    else:
        middle = found.scale * (found.step / 2 + found.offset)
        again = replace(Decision.zero(), at=np.array([middle]))
    return replace(found, source=expr, how=again)


def _with_border(value: relax.Call, found: Found) -> Found:
    """``found`` where a constant border that ``value`` lays around it, if any, is on one of its levels."""
    constant = op_name(value) == "nn.pad" and value.attrs.pad_mode == "constant"
    if not constant or not isinstance(found, ActivationLevels):
        return found
    border = float(value.attrs.pad_value)
    level = (border / found.scale - found.offset) / found.step
    on_level = abs(level - round(level)) < 1e-6 and 0 <= round(level) <= found.highest
    return found if on_level else NearMiss(f"padding with {border:g} is on no level")


def _joined(graph: Definitions, expr: relax.Expr, value: relax.Call) -> Found:
    """The levels that all parts of a concatenation have in common."""
    parts = graph.definition(value.args[0])
    found = [_levels(graph, part) for part in parts.fields]
    known = [part for part in found if isinstance(part, ActivationLevels)]
    if len(known) < len(found):
        return next((part for part in found if isinstance(part, NearMiss)), None)
    scales = {(part.scale, part.step, part.offset, part.highest) for part in known}
    if len(scales) > 1:
        return NearMiss("what is joined in front of it has different levels")
    return _moved(expr, known[0])
