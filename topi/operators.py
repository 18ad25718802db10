"""Our operators by name: which problem each is asked; and for each kind of target, its knobs and how to make one alone.

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
    """An operator as one kind of target has it.

    Attributes
    ----------
    kind : str
        Of target.
    name : str
    problem : type of Problem
        The same for every kind.
    knobs : type of KnobSet
    make : callable
        ``make(problem, knobs, machine, rng)`` makes one alone.
    """

    kind: str
    name: str
    problem: type[Problem]
    knobs: type[KnobSet]
    make: Make


_PROBLEMS: dict[str, type[Problem]] = {}
_OPERATORS: dict[tuple[str, str], Operator] = {}


def register_operator(name: str, problem: type[Problem]) -> None:
    """Add an operator that is asked ``problem``."""
    if name in _PROBLEMS:
        raise ValueError(f"operator {name} is registered already")
    _PROBLEMS[name] = problem


def register_knobs(kind: str, name: str, knobs: type[KnobSet], make: Make) -> None:
    """Let targets of ``kind`` (``"llvm"``) have the operator ``name``, with these knobs.

    Raises
    ------
    LookupError
        There is no such operator.
    ValueError
        They have it already.
    """
    problem = _problem_of(name)
    if (kind, name) in _OPERATORS:
        raise ValueError(f"operator {name} has knobs for targets of kind {kind} already")
    _OPERATORS[kind, name] = Operator(kind, name, problem, knobs, make)


def operator_of(kind: str, name: str) -> Operator:
    """The operator called ``name`` as targets of ``kind`` have it.

    Raises
    ------
    LookupError
        There is none, or they have none.
    """
    _problem_of(name)
    if (kind, name) not in _OPERATORS:
        kinds = sorted(known for known, other in _OPERATORS if other == name)
        raise LookupError(
            f"operator {name} has no knobs for targets of kind {kind}; kinds that it has: {', '.join(kinds) or 'none'}"
        )
    return _OPERATORS[kind, name]


def operator_names(kind: str) -> tuple[str, ...]:
    """Of all operators that targets of ``kind`` have, sorted."""
    return tuple(sorted(name for known, name in _OPERATORS if known == kind))


def _problem_of(name: str) -> type[Problem]:
    if name not in _PROBLEMS:
        raise LookupError(f"there is no operator {name}; known: {', '.join(sorted(_PROBLEMS))}")
    return _PROBLEMS[name]


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


def activated(value: te.Tensor, bias: te.Tensor) -> te.Tensor:
    """What stands behind nearly every convolution of a network: a bias for each of the last axis, and ReLU."""
    shape = list(value.shape)
    added = te.compute(shape, lambda *i: value(*i) + bias[i[-1]], name="biased")
    return te.compute(shape, lambda *i: tirx.max(added(*i), tirx.const(0.0, "float32")), name="activated")


def activated_sample(
    compute: Callable[..., te.Tensor],
    arrays: tuple[np.ndarray, ...],
    reference: Callable[[], np.ndarray],
    channels: int,
    rng: np.random.Generator,
    **kwargs: Any,
) -> Sample:
    """An operator alone with `activated` behind it: knobs that are best without may not be with it.

    Parameters
    ----------
    reference : callable
        Of the operator.
    channels : int
        The last axis of its result.
    """
    bias = rng.standard_normal(channels, np.float32)

    def with_bias(*tensors: te.Tensor, **how: Any) -> te.Tensor:
        return activated(compute(*tensors[:-1], **how), tensors[-1])

    func = te_function(with_bias, (*arrays, bias), **kwargs)
    return Sample(func, (*arrays, bias), lambda: np.maximum(reference() + bias, 0))
