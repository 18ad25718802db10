"""Does a value of the graph hold few levels, and from what is it decided? All the ways in which people write it.

Two levels: ``sign(x)`` (where x is never negative, 0 and 1), ``where(x >= t, a, b)`` with any comparison,
``(x >= t).float() · 2 − 1``, ``(x >= t).float() − (x < t).float()``. More: ``round(clip(x · n))``, before or after
scaling and shifting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from tvm_fastconv.topi.bitpack import Grid

from .decisions import Decision
from .graph import CallRewriter, constant_array, op_name

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

NON_NEGATIVE = frozenset(("nn.relu", "sigmoid", "abs", "square", "exp", "sqrt", "nn.softmax", "nn.softplus"))
PASSES_SIGN = frozenset(
    ("nn.max_pool2d", "nn.avg_pool2d", "nn.adaptive_avg_pool2d", "reshape", "permute_dims")
)

MAX_DIGITS = 8


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
    notice : str
        What the user should know.
    """

    source: relax.Expr
    how: Decision | Grid
    step: int
    offset: int
    scale: float
    notice: str = ""

    @property
    def digits(self) -> int:
        """Binary digits of q."""
        return self.how.digits if isinstance(self.how, Grid) else 1


def activation_levels(rewriter: CallRewriter, expr: relax.Expr) -> ActivationLevels | str | None:
    """The levels of ``expr``; ``None`` where it is no few-level value, a text where it nearly is."""
    value = rewriter.definition(expr)
    if op_name(value) == "sign":
        return _sign(rewriter, value)
    if (pair := _two_levels(rewriter, expr)) is not None:
        return pair.levels(rewriter)
    grid = _grid(rewriter, expr)
    return None if grid is None else grid.levels()


def _sign(rewriter: CallRewriter, call: relax.Call) -> ActivationLevels:
    source = call.args[0]
    if _never_negative(rewriter, source):
        positive = Decision(np.zeros(1), np.ones(1, bool), np.zeros(1, bool))
        return ActivationLevels(source, positive, 2, 0, 0.5)
    return ActivationLevels(source, Decision.zero(), 2, -1, 1.0, notice="sign(0) is taken as +1")


def _never_negative(rewriter: CallRewriter, expr: relax.Expr) -> bool:
    value = rewriter.definition(expr)
    name = op_name(value)
    if name == "clip":
        return _number(value.args[1]) >= 0
    return name in NON_NEGATIVE or (name in PASSES_SIGN and _never_negative(rewriter, value.args[0]))


@dataclass(frozen=True)
class _Pair:
    """``high`` where the condition holds, else ``low``."""

    condition: relax.Call
    high: float
    low: float

    def levels(self, rewriter: CallRewriter) -> ActivationLevels | str | None:
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
        levels = [_uniform(rewriter, high), _uniform(rewriter, low)]
        if op_name(condition) in COMPARISONS and None not in levels:
            return _Pair(condition, *levels)
    if name == "astype" and op_name(rewriter.definition(value.args[0])) in COMPARISONS:
        return _Pair(rewriter.definition(value.args[0]), 1.0, 0.0)
    if name == "subtract":
        first, second = (_two_levels(rewriter, arg) for arg in value.args)
        if first and second and _complementary(first.condition, second.condition):
            return _Pair(first.condition, first.high - second.low, first.low - second.high)
    if (affine := _scalar_step(rewriter, value)) is not None:
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
    thresholds = [constant_array(call.args[1]) for call in (a, b)]
    return (
        (op_name(a), op_name(b)) in pairs
        and a.args[0].same_as(b.args[0])
        and thresholds[0] is not None
        and thresholds[1] is not None
        and np.array_equal(*thresholds)
    )


def _decision(condition: relax.Call) -> tuple[relax.Expr, Decision] | None:
    name, (left, right) = op_name(condition) or "", condition.args
    if constant_array(left) is not None:
        name, left, right = MIRRORED[name], right, left
    limit = constant_array(right)
    decision = None if limit is None else Decision.against(left, limit, *COMPARISONS[name])
    return None if decision is None else (left, decision)


def _uniform(rewriter: CallRewriter, value: relax.Expr) -> float | None:
    """The one number that a constant, or a tensor made from one, holds."""
    array = constant_array(value)
    if array is not None:
        return float(array.flat[0]) if array.size and (array == array.flat[0]).all() else None
    name = op_name(value)
    if name in ("ones_like", "zeros_like"):
        return float(name == "ones_like")
    if name == "full_like":
        return _uniform(rewriter, rewriter.definition(value.args[1]))
    if name == "negative":
        inner = _uniform(rewriter, rewriter.definition(value.args[0]))
        return None if inner is None else -inner
    return None


def _scalar_step(
    rewriter: CallRewriter, value: relax.Expr
) -> tuple[relax.Expr, Callable[[float], float]] | None:
    """(operand, function) of an operator that scales or shifts by one number."""
    name = op_name(value)
    if name == "negative":
        return value.args[0], lambda x: -x
    if name not in ("multiply", "add", "subtract", "divide"):
        return None
    numbers = [_uniform(rewriter, rewriter.definition(arg)) for arg in value.args]
    c = numbers[1] if numbers[1] is not None else numbers[0]
    if c is None or None not in numbers:
        return None
    operand, second = (value.args[0], True) if numbers[1] is not None else (value.args[1], False)
    functions: dict[tuple[str, bool], Callable[[float], float]] = {
        ("multiply", True): lambda x: x * c,
        ("multiply", False): lambda x: x * c,
        ("add", True): lambda x: x + c,
        ("add", False): lambda x: x + c,
        ("subtract", True): lambda x: x - c,
        ("subtract", False): lambda x: c - x,
        ("divide", True): lambda x: x / c if c else np.nan,
    }
    function = functions.get((name, second))
    return None if function is None else (operand, function)


@dataclass(frozen=True)
class _Rounded:
    """``gain · clip(round(scale · (x / divisor) + shift), low, high) + bias``; before rounding, without ``round``.

    Division is kept: its result is rounded otherwise than a product's, and halves are where levels part.
    """

    source: relax.Expr
    divisor: float = 1.0
    scale: float = 1.0
    shift: float = 0.0
    low: float = -np.inf
    high: float = np.inf
    rounded: bool = False
    gain: float = 1.0
    bias: float = 0.0

    def affine(self, function: Callable[[float], float]) -> _Rounded | None:
        """Followed by ``function``, which is linear."""
        gain, bias = function(1.0) - function(0.0), function(0.0)
        if self.rounded:
            return replace(self, gain=self.gain * gain, bias=self.bias * gain + bias)
        if not gain > 0:
            return None
        return replace(
            self,
            scale=self.scale * gain,
            shift=self.shift * gain + bias,
            low=self.low * gain + bias,
            high=self.high * gain + bias,
        )

    def clip(self, low: float, high: float) -> _Rounded | None:
        """Followed by a clip."""
        if self.rounded:
            if self.gain <= 0:
                return None
            low, high = (low - self.bias) / self.gain, (high - self.bias) / self.gain
        return replace(self, low=min(max(self.low, low), high), high=max(min(self.high, high), low))

    def levels(self) -> ActivationLevels | str | None:
        low, high = round(self.low), round(self.high)
        if abs(self.low - low) > 1e-4 or abs(self.high - high) > 1e-4 or self.gain <= 0:
            return None
        grid = Grid(divisor=self.divisor, scale=self.scale, shift=self.shift, low=low, high=high)
        offset = low + self.bias / self.gain
        if not 1 <= grid.digits <= MAX_DIGITS or abs(offset - round(offset)) > 1e-4:
            return None
        return ActivationLevels(self.source, grid, 1, round(offset), self.gain)


def _grid(rewriter: CallRewriter, expr: relax.Expr) -> _Rounded | None:
    """``expr`` as a rounded value whose clips make it finite."""
    found = _rounded(rewriter, expr)
    finite = found is not None and found.rounded and np.isfinite([found.low, found.high]).all()
    return found if finite else None


def _rounded(rewriter: CallRewriter, expr: relax.Expr) -> _Rounded | None:
    value = rewriter.definition(expr)
    name = op_name(value)
    inner: _Rounded | None
    if name == "round":
        inner = _rounded(rewriter, value.args[0]) or _Rounded(value.args[0])
        return None if inner.rounded else replace(inner, rounded=True)
    if name == "clip":
        inner = _rounded(rewriter, value.args[0]) or _Rounded(value.args[0])
        return inner.clip(_number(value.args[1]), _number(value.args[2]))
    if name == "nn.relu":
        inner = _rounded(rewriter, value.args[0]) or _Rounded(value.args[0])
        return inner.clip(0.0, np.inf)
    if (affine := _scalar_step(rewriter, value)) is not None:
        inner = _rounded(rewriter, affine[0]) or _Rounded(affine[0])
        result = inner.affine(affine[1])
        divides = (
            name == "divide" and not inner.rounded and (inner.divisor, inner.scale, inner.shift) == (1, 1, 0)
        )
        if result is None or not divides:
            return result
        return replace(result, divisor=1 / affine[1](1.0), scale=1.0)
    return None


def _number(expr: relax.Expr) -> float:
    """The value of a scalar argument."""
    array = constant_array(expr)
    return float(array) if array is not None else float(expr.value)
