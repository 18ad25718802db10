"""Values that a comparison decides between two numbers, through casts, scaling, clips and further selections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tvm_ffi
from tvm import relax

from ..graph.rewrite import Definitions, constant_array, op_name
from ..graph.scalar_steps import number_of, scalar_step, uniform_value
from .decisions import Decision

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
OPPOSITE = {
    "greater_equal": "less",
    "less": "greater_equal",
    "greater": "less_equal",
    "less_equal": "greater",
}
_HOLDS = replace(Decision.zero(), strict=np.ones(1, bool))


@dataclass(frozen=True)
class TwoLevels:
    """``yes`` where the condition holds, else ``no``.

    Attributes
    ----------
    condition : Expr
        Of dtype bool.
    """

    condition: relax.Expr
    yes: float
    no: float

    def through(self, function: Callable[[float], float], dtype: str) -> TwoLevels | None:
        """Followed by ``function``, whose result is a ``dtype``; ``None`` where a number does not fit."""
        yes, no = (_fitting(function(number), dtype) for number in (self.yes, self.no))
        return None if yes is None or no is None else replace(self, yes=yes, no=no)

    def decision(self, graph: Definitions) -> tuple[relax.Expr, Decision]:
        """(x, the bit about x that is 1 for the larger number); x is the condition where nothing simpler decides."""
        source, decision = _compared(graph, self.condition) or (self.condition, _HOLDS)
        return source, decision if self.yes > self.no else replace(decision, flip=~decision.flip)


def two_levels(graph: Definitions, expr: relax.Expr) -> TwoLevels | None:
    """``expr`` as a value of two levels, ``None`` for anything else."""
    value = graph.definition(expr)
    name = op_name(value)
    dtype = str(getattr(value.ty, "dtype", ""))
    if name == "where":
        return _selected(graph, value)
    if name in ("astype", "logical_not", "clip") or (name == "bitwise_not" and dtype == "bool"):
        inner = two_levels(graph, value.args[0])
        return inner and inner.through(_function(name, value), dtype)
    if name in ("add", "subtract") and dtype != "bool" and (pair := _combined(graph, value)) is not None:
        return pair
    if (affine := scalar_step(graph, value)) is not None:
        inner = two_levels(graph, affine[0])
        return inner and inner.through(affine[1], dtype)
    return TwoLevels(expr, 1.0, 0.0) if dtype == "bool" else None


def _function(name: str, value: relax.Call) -> Callable[[float], float]:
    if name in ("logical_not", "bitwise_not"):
        return lambda x: 1 - x
    if name == "astype":
        return {"bool": lambda x: float(x != 0)}.get(str(value.ty.dtype), lambda x: x)
    low, high = (number_of(arg) for arg in value.args[1:])
    return lambda x: min(max(x, low), high)


def _fitting(number: float, dtype: str) -> float | None:
    """``number`` if a ``dtype`` holds it; casts to integers cut its fraction off."""
    if dtype.startswith(("int", "uint")):
        limits, number = np.iinfo(dtype), float(np.trunc(number))
        return number if limits.min <= number <= limits.max else None
    return number


def _selected(graph: Definitions, value: relax.Call) -> TwoLevels | None:
    condition = two_levels(graph, value.args[0])
    yes, no = (uniform_value(graph, graph.definition(arg)) for arg in value.args[1:])
    if condition is None or yes is None or no is None:
        return None
    return replace(condition, yes=yes if condition.yes else no, no=yes if condition.no else no)


def _combined(graph: Definitions, value: relax.Call) -> TwoLevels | None:
    """Sum or difference of two values that one condition decides, as ``(x >= t) − (x < t)`` or ``c − ~c``."""
    first, second = (two_levels(graph, arg) for arg in value.args)
    if not first or not second:
        return None
    if not second.condition.same_as(first.condition):
        if not _complementary(*(graph.definition(pair.condition) for pair in (first, second))):
            return None
        second = replace(second, yes=second.no, no=second.yes)
    sign = 1.0 if op_name(value) == "add" else -1.0
    yes, no = first.yes + sign * second.yes, first.no + sign * second.no
    return replace(first, yes=yes, no=no).through(lambda x: x, str(value.ty.dtype))


def _complementary(a: relax.Expr, b: relax.Expr) -> bool:
    if op_name(b) is None or OPPOSITE.get(op_name(a) or "") != op_name(b) or not a.args[0].same_as(b.args[0]):
        return False
    first, second = constant_array(a.args[1]), constant_array(b.args[1])
    return first is not None and second is not None and np.array_equal(first, second)


def _compared(graph: Definitions, condition: relax.Expr) -> tuple[relax.Expr, Decision] | None:
    """(x, decision) of a comparison of float32 values with constants, channel by channel."""
    value = graph.definition(condition)
    name = op_name(value) or ""
    if name not in COMPARISONS:
        return None
    left, right = value.args
    if constant_array(left) is not None:
        name, left, right = MIRRORED[name], right, left
    limit, ty = constant_array(right), left.ty
    if limit is None or ty.dtype != "float32" or not tvm_ffi.structural_equal(ty.shape, value.ty.shape):
        return None
    decision = Decision.against(left, limit, *COMPARISONS[name])
    return None if decision is None else (left, decision)
