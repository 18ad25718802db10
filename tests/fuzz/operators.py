"""The table of operators that networks are made of; they live in the files ``operators_*.py``.

An operator takes what it draws from and the value it reads, and returns an expression, or ``None`` where it does not
apply. ``f"{x}"`` is the value's name; ``x.data`` is what it will be.
"""

from collections.abc import Callable

import torch

from .network import Draw, Value

Operator = Callable[[Draw, Value], "str | None"]

OPERATORS: dict[str, Operator] = {}
KINDS = {"float": {torch.float32}, "int": {torch.int64, torch.int32}, "bool": {torch.bool}}

MARGIN = 1e-4
"""How far values keep away from a threshold, relative to the largest: a hundred times the noise of float32 sums."""


def operator(kinds: str = "float", ranks: tuple[int, ...] = (2, 3, 4)) -> Callable[[Operator], Operator]:
    """Register an operator for values of some kinds (``"float int"``) and ranks."""
    dtypes = set().union(*(KINDS[kind] for kind in kinds.split()))

    def register(function: Operator) -> Operator:
        def checked(draw: Draw, x: Value) -> str | None:
            return function(draw, x) if x.data.dtype in dtypes and x.data.ndim in ranks else None

        OPERATORS[function.__name__] = checked
        return function

    return register


def threshold(draw: Draw, x: Value) -> float | None:
    """Draw a threshold in the widest gap between the values of ``x`` in a random quarter of them."""
    ordered = x.data.double().flatten().sort().values
    start = draw.rng.randrange(max(len(ordered) * 3 // 4, 1))
    part = ordered[start : start + max(len(ordered) // 4, 2)]
    if len(part) < 2:
        return None
    widest = part.diff().argmax()
    middle = float(f"{((part[widest] + part[widest + 1]) / 2).item():.6g}")
    return middle if is_apart(x.data.double() - middle, x.data) else None


def is_apart(differences: torch.Tensor, values: torch.Tensor) -> bool:
    """Whether values are further than `MARGIN` of the largest from their thresholds."""
    return differences.abs().min().item() > MARGIN * max(values.abs().max().item(), 1.0)


def rounds_safely(scaled: torch.Tensor) -> bool:
    """Whether no value lies where rounding to integers jumps."""
    return is_apart((scaled.double() - scaled.double().floor()) - 0.5, scaled)


def floors_safely(scaled: torch.Tensor) -> bool:
    """Whether no value lies where rounding down jumps."""
    return is_apart(scaled.double() - scaled.double().round(), scaled)
