"""Our operators by name: which problem each is asked, which knobs it has, and how to make one alone.

Operators are registered where they are written. What is made alone, from a problem and knobs, is what the compiler
makes of them in a network, on random data: tests, sweeps and tuning run it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx

from .knobs import KnobSet
from .machine import Machine
from .problem import Problem
from .window import extents


@dataclass(frozen=True)
class Sample:
    """One operator alone.

    Attributes
    ----------
    func : PrimFunc
        Not scheduled, if it has a template.
    arrays : tuple of ndarray
        Random data, and weights in the form that the knobs ask for.
    reference : callable
        The result by the slow reference.
    shape : tuple of int, optional
        Of the result, where the function takes any number of rows.
    """

    func: tirx.PrimFunc
    arrays: tuple[np.ndarray, ...]
    reference: Callable[[], np.ndarray]
    shape: tuple[int, ...] | None = None

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Of the result, the last parameter; given as ``shape`` where the function takes any."""
        return self.shape or tuple(int(n) for n in self.func.params[-1].shape)

    @property
    def result_dtype(self) -> str:
        """Of the result."""
        return str(self.func.params[-1].dtype)


Make = Callable[[Any, Any, Machine, np.random.Generator], Sample]


@dataclass(frozen=True)
class Operator:
    """An entry of the registry."""

    name: str
    problem: type[Problem]
    knobs: type[KnobSet]
    make: Make


_OPERATORS: dict[str, Operator] = {}


def register_operator(name: str, problem: type[Problem], knobs: type[KnobSet], make: Make) -> None:
    """Add an operator; ``make(problem, knobs, machine, rng)`` makes one alone."""
    if name in _OPERATORS:
        raise ValueError(f"operator {name} is registered already")
    _OPERATORS[name] = Operator(name, problem, knobs, make)


def operator_of(name: str) -> Operator:
    """The operator called ``name``.

    Raises
    ------
    LookupError
        There is none.
    """
    if name not in _OPERATORS:
        raise LookupError(f"there is no operator {name}; known: {', '.join(sorted(_OPERATORS))}")
    return _OPERATORS[name]


def operator_names() -> tuple[str, ...]:
    """Of all operators, sorted."""
    return tuple(sorted(_OPERATORS))


def operator_attrs(name: str, problem: Problem, knobs: KnobSet) -> dict[str, str]:
    """The annotations of an operator's anchor block, from which it can be made again."""
    return {"fastconv.op": name, "fastconv.problem": problem.key, "fastconv.knobs": knobs.to_json()}


def marked(func: tirx.PrimFunc, name: str, problem: Problem, knobs: KnobSet) -> tirx.PrimFunc:
    """``func``, which is written as loops without an anchor, with the same as attributes of its own."""
    return func.with_attrs(operator_attrs(name, problem, knobs))


def te_function(
    compute: Callable[..., te.Tensor], arrays: Iterable[np.ndarray], **kwargs: Any
) -> tirx.PrimFunc:
    """``compute`` over tensors like ``arrays``."""
    tensors = [te.placeholder(extents(*a.shape), str(a.dtype), name=f"arg{i}") for i, a in enumerate(arrays)]
    return te.create_prim_func([*tensors, compute(*tensors, **kwargs)])
