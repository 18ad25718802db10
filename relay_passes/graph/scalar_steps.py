"""Operators that scale or shift by one number, and where such a number stands in the graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import relax

from .rewrite import Definitions, constant_array, op_name


def uniform_value(graph: Definitions, value: relax.Expr) -> float | None:
    """The one number that a constant, or a tensor made from one, holds."""
    array = constant_array(value)
    if array is not None:
        return float(array.flat[0]) if array.size and (array == array.flat[0]).all() else None
    name = op_name(value)
    if name in ("ones_like", "zeros_like"):
        return float(name == "ones_like")
    if name == "full_like":
        return uniform_value(graph, graph.definition(value.args[1]))
    if name == "negative":
        inner = uniform_value(graph, graph.definition(value.args[0]))
        return None if inner is None else -inner
    return None


def scalar_step(graph: Definitions, value: relax.Expr) -> tuple[relax.Expr, Callable[[float], float]] | None:
    """(operand, function) of an operator that scales or shifts by one number."""
    name = op_name(value)
    if name == "negative":
        return value.args[0], lambda x: -x
    if name not in ("multiply", "add", "subtract", "divide"):
        return None
    numbers = [uniform_value(graph, graph.definition(arg)) for arg in value.args]
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


def number_of(expr: relax.Expr) -> float:
    """The value of a scalar argument."""
    array = constant_array(expr)
    return float(array) if array is not None else float(expr.value)
