"""Paired ratios and their intervals."""

import numpy as np
import pytest

from tvm_fastconv.autotune.comparison import paired_ratio


def test_the_median_of_ratios_turn_by_turn() -> None:
    load = np.linspace(1, 5, 15)  # a machine that becomes slower: ratios do not notice
    found = paired_ratio(1.25 * load, load)
    assert found.median == found.low == found.high == pytest.approx(1.25)


def test_the_interval_leaves_out_what_fewer_than_five_percent_of_medians_are() -> None:
    # Of 15 values, the 4th from either side: 2 · P(B(15, 1/2) <= 3) = 3.5 %; the 5th would be 11.8 %.
    found = paired_ratio(np.arange(1.0, 16.0), np.ones(15))
    assert (found.low, found.median, found.high) == (4.0, 8.0, 12.0)


def test_it_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        found = paired_ratio(np.exp(rng.normal(0.1, 0.3, 15)), np.ones(15))
        inside += found.low <= np.exp(0.1) <= found.high
    assert 0.95 <= inside / 2000 <= 0.985  # 96.5 % by the formula


def test_too_few_turns_are_refused() -> None:
    assert paired_ratio([1.0] * 6, [1.0] * 6).low == 1.0
    with pytest.raises(ValueError, match="5 turns are too few"):
        paired_ratio([1.0] * 5, [1.0] * 5)
    with pytest.raises(ValueError, match=r"longer|shorter"):
        paired_ratio([1.0] * 6, [1.0] * 7)
