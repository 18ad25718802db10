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

    Bytes are given up where a byte costs the least time, one layer and one choice after the other, and what is left
    over then goes where it saves the most: a greedy solution of a knapsack with several choices for each item. Where
    even the smallest are too large, those are returned.
    """
    chosen = [min(choices, key=lambda key: choices[key].cost) for choices in layers]

    def left() -> float:
        return most - sum(choices[key].weight_bytes for choices, key in zip(layers, chosen, strict=True))

    def steps() -> list[tuple[int, K, float, int]]:
        """(layer, choice, time it costs, bytes it takes more), for every other choice."""
        return [
            (at, key, choice.cost - now.cost, choice.weight_bytes - now.weight_bytes)
            for at, choices in enumerate(layers)
            for now in [choices[chosen[at]]]
            for key, choice in choices.items()
            if key != chosen[at]
        ]

    while left() < 0 and (smaller := [step for step in steps() if step[3] < 0]):
        at, key, *_ = min(smaller, key=lambda step: step[2] / -step[3])
        chosen[at] = key
    while quicker := [step for step in steps() if step[2] < 0 and step[3] <= left()]:
        at, key, *_ = min(quicker, key=lambda step: step[2])
        chosen[at] = key
    return chosen
