"""Which layers may have larger weights, where not all that want them can."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K")


@dataclass(frozen=True)
class Choice:
    """A way to compute a layer: how long that takes, in cycles or any other unit, and the bytes of its weights."""

    cost: float
    weight_bytes: int


def choose_within(layers: Sequence[Mapping[K, Choice]], most: float) -> list[K]:
    """The quickest choice of every layer, less what takes more than ``most`` bytes in all.

    Bytes are given up where a byte costs the least time, one layer and one choice after the other: the greedy solution
    of a knapsack with several choices for each item. Where even the smallest are too large, those are returned.
    """
    chosen = [min(choices, key=lambda key: choices[key].cost) for choices in layers]
    while sum(choices[key].weight_bytes for choices, key in zip(layers, chosen, strict=True)) > most:
        steps = [
            ((choice.cost - now.cost) / (now.weight_bytes - choice.weight_bytes), at, key)
            for at, choices in enumerate(layers)
            for now in [choices[chosen[at]]]
            for key, choice in choices.items()
            if choice.weight_bytes < now.weight_bytes
        ]
        if not steps:
            break
        _, at, key = min(steps, key=lambda step: step[0])
        chosen[at] = key
    return chosen
