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

from .decisions import Decision
from .graph import CallRewriter, constant_array, op_name
from .rounded_values import rounded_value
from .scalar_steps import scalar_step, uniform_value
from .zeros import never_negative

COMPARISONS = {
    # operator: (strict, flipped) of ``x op t`` as ``(x >= t or x > t) != flipped``
    "greater_equal": (False, False),
    "greater": (True, False),
    "less": (False, True),
    "less_equal": (True, True),
}
MIRRORED = {
    "greater_equal": "less_equal",
    "greater": "less",
    "less": "greater",
    "less_equal": "greater_equal",
}
MOVES = frozenset(("nn.max_pool2d", "nn.pad", "permute_dims", "reshape", "strided_slice"))
"""Each value of the result is one of the argument's, but for a constant border."""


@dataclass(frozen=True)
class ActivationLevels:
    """``value = scale · (step · q + offset)``.

    Attributes
    ----------
    source : Expr
        What q is computed from.
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
    def digits(self) -> int:
        """Binary digits of q."""
        return self.how.digits if isinstance(self.how, Grid) else 1


def activation_levels(rewriter: CallRewriter, expr: relax.Expr) -> ActivationLevels | str | None:
    """The levels of ``expr``; ``None`` where it is no few-level value, a text where it nearly is."""
    found = _levels(rewriter, expr)
    # A decision about fewer values than it is broadcast to, or about integers, is no operand of ours.
    whole = isinstance(found, str) or (found and tvm_ffi.structural_equal(found.source.ty, expr.ty))
    return found if whole else None


def _levels(rewriter: CallRewriter, expr: relax.Expr) -> ActivationLevels | str | None:
    value = rewriter.definition(expr)
    if op_name(value) == "sign":
        return _sign(rewriter, value)
    if op_name(value) in MOVES and getattr(value.attrs, "pad_mode", "") != "constant":
        return _moved(expr, _levels(rewriter, value.args[0]))
    if (pair := _two_levels(rewriter, expr)) is not None:
        return pair.levels()
    rounded = rounded_value(rewriter, expr)
    if rounded is None or (found := rounded.grid()) is None:
        return None
    return ActivationLevels(rounded.source, found[0], 1, found[1], rounded.gain)


def _sign(rewriter: CallRewriter, call: relax.Call) -> ActivationLevels | None:
    """0 and 1, or nothing: `ApproximateSign` has rewritten the others."""
    if not never_negative(rewriter, call.args[0]):
        return None
    positive = Decision(np.zeros(1), np.ones(1, bool), np.zeros(1, bool))
    return ActivationLevels(call.args[0], positive, 2, 0, 0.5)


def _moved(expr: relax.Expr, found: ActivationLevels | str | None) -> ActivationLevels | str | None:
    """The levels ``found`` of an argument, read again from the values ``expr`` that they were moved to."""
    if not isinstance(found, ActivationLevels):
        return found
    how = found.how
    if isinstance(how, Grid):
        # value = scale · (q + offset), and q + low is what is rounded
        again: Decision | Grid = replace(
            how, divisor=1.0, scale=1 / found.scale, shift=how.low - found.offset
        )
    else:
        middle = found.scale * (found.step / 2 + found.offset)
        again = replace(Decision.zero(), at=np.array([middle]))
    return replace(found, source=expr, how=again)


@dataclass(frozen=True)
class _Pair:
    """``high`` where the condition holds, else ``low``."""

    condition: relax.Call
    high: float
    low: float

    def levels(self) -> ActivationLevels | str | None:
        """The pair as levels, if it is decided about a computed value."""
        found = _decision(self.condition)
        if found is None or self.high == self.low:
            return None
        source, decision = found
        high, low = (self.high, self.low) if self.high > self.low else (self.low, self.high)
        if self.high < self.low:
            decision = replace(decision, flip=~decision.flip)
        # In units of half the distance the levels are neighbouring odd or even integers, or this is no grid.
        half = (high - low) / 2
        offset = low / half
        if abs(offset - round(offset)) > 1e-6 or abs(offset) > 2**15:
            return f"dense: the levels {low:g} and {high:g} are no multiples of half their distance"
        return ActivationLevels(source, decision, 2, round(offset), half)


def _two_levels(rewriter: CallRewriter, expr: relax.Expr) -> _Pair | None:
    value = rewriter.definition(expr)
    name = op_name(value)
    if name == "where":
        condition, high, low = (rewriter.definition(arg) for arg in value.args)
        above, below = uniform_value(rewriter, high), uniform_value(rewriter, low)
        if op_name(condition) in COMPARISONS and above is not None and below is not None:
            return _Pair(condition, above, below)
    if name == "astype" and op_name(rewriter.definition(value.args[0])) in COMPARISONS:
        return _Pair(rewriter.definition(value.args[0]), 1.0, 0.0)
    if name == "subtract":
        first, second = (_two_levels(rewriter, arg) for arg in value.args)
        if first and second and _complementary(first.condition, second.condition):
            return _Pair(first.condition, first.high - second.low, first.low - second.high)
    if (affine := scalar_step(rewriter, value)) is not None:
        inner = _two_levels(rewriter, affine[0])
        return inner and replace(inner, high=affine[1](inner.high), low=affine[1](inner.low))
    return None


def _complementary(a: relax.Call, b: relax.Call) -> bool:
    pairs = {
        ("greater_equal", "less"),
        ("less", "greater_equal"),
        ("greater", "less_equal"),
        ("less_equal", "greater"),
    }
    first, second = constant_array(a.args[1]), constant_array(b.args[1])
    return (
        (op_name(a), op_name(b)) in pairs
        and a.args[0].same_as(b.args[0])
        and first is not None
        and second is not None
        and np.array_equal(first, second)
    )


def _decision(condition: relax.Call) -> tuple[relax.Expr, Decision] | None:
    name, (left, right) = op_name(condition) or "", condition.args
    if constant_array(left) is not None:
        name, left, right = MIRRORED[name], right, left
    limit = constant_array(right)
    decision = None if limit is None else Decision.against(left, limit, *COMPARISONS[name])
    return None if decision is None else (left, decision)
