"""Which layers give up larger weights: against all that could be chosen."""

import itertools

import numpy as np
import pytest

from tvm_fastconv.relay_passes.dense.weight_budget import Choice, choose_within

Layers = list[dict[str, Choice]]


def _sizes(layers: Layers, chosen: list[str]) -> tuple[float, int]:
    picked = [choices[key] for choices, key in zip(layers, chosen, strict=True)]
    return sum(each.cost for each in picked), sum(each.weight_bytes for each in picked)


def _random(rng: np.random.Generator, count: int) -> Layers:
    layers = []
    for _ in range(count):
        size, cost = int(rng.integers(1, 100)), float(rng.integers(50, 100))
        layers.append(
            {
                "direct": Choice(cost, 9 * size),
                "F(2x2)": Choice(cost / float(rng.uniform(0.9, 2)), 16 * size),
                "F(4x4)": Choice(cost / float(rng.uniform(0.9, 3)), 36 * size),
            }
        )
    return layers


def test_without_a_limit_each_layer_takes_its_quickest() -> None:
    layers = _random(np.random.default_rng(0), 20)
    chosen = choose_within(layers, float("inf"))
    assert all(
        choices[key].cost == min(c.cost for c in choices.values())
        for choices, key in zip(layers, chosen, strict=True)
    )


@pytest.mark.parametrize("seed", range(20))
def test_it_is_within_the_limit_and_close_to_the_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = _random(rng, 6)
    least = sum(choices["direct"].weight_bytes for choices in layers)
    most = float(rng.uniform(1.0, 3.0)) * least
    cost, size = _sizes(layers, choose_within(layers, most))
    assert size <= most
    every = (_sizes(layers, list(keys)) for keys in itertools.product(*layers))
    best = min(cost for cost, size in every if size <= most)
    # Greedy: what is left over may fall short of the next layer's need.
    assert cost <= 1.1 * best


def test_what_is_left_over_is_used() -> None:
    """Giving up the large layer makes room for the small one, which was given up first."""
    small = {"direct": Choice(2.0, 1), "larger": Choice(1.95, 2)}
    large = {"direct": Choice(20.0, 100), "larger": Choice(10.0, 200)}
    assert choose_within([small, large], 201) == ["direct", "larger"]
    assert choose_within([small, large], 102) == ["larger", "direct"]


def test_what_cannot_be_within_takes_the_smallest() -> None:
    layers = _random(np.random.default_rng(1), 5)
    assert choose_within(layers, 0) == ["direct"] * 5
    assert choose_within([], 0) == []
