"""Estimates and measurements are compared with their like."""

import itertools

import pytest

from tvm_fastconv.topi.cycles import Cycles, cheapest, on_one_footing


def test_it_is_the_estimate() -> None:
    assert Cycles(3.0, 9.0) == 3.0
    assert f"{Cycles(3.0, 9.0):.1f}" == "3.0"
    assert Cycles(1.0, 9.0) < Cycles(2.0, 8.0)


def test_what_was_measured_is_compared_where_all_were() -> None:
    costs = {"a": Cycles(1.0, 9.0), "b": Cycles(2.0, 8.0), "plain": 8.5}
    assert on_one_footing(costs) == {"a": 9.0, "b": 8.0, "plain": 8.5}
    assert cheapest(costs) == "b"


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_else_estimates_are_in_whatever_order(order: tuple[str, ...]) -> None:
    # Pair by pair, a would beat b and b beat c by estimate, and c beat a by measurement.
    costs = {"a": Cycles(1.0, 9.0), "b": Cycles(2.0), "c": Cycles(3.0, 1.0)}
    assert cheapest({name: costs[name] for name in order}) == "a"
    assert on_one_footing(costs) == {"a": 1.0, "b": 2.0, "c": 3.0}


def test_the_first_of_equals() -> None:
    assert cheapest({"a": 1.0, "b": Cycles(1.0, 1.0)}) == "a"


def test_a_plain_number_stands_for_both() -> None:
    total = 5.0 + Cycles(1.0, 9.0) + 1.0
    assert (total, total.measured) == (7.0, 15.0)


def test_a_sum_was_measured_if_all_of_it_was() -> None:
    assert (Cycles(1.0, 9.0) + Cycles(1.0)).measured is None
    assert sum([Cycles(1.0, 9.0), Cycles(1.0, 2.0)], start=Cycles(0.0, 0.0)).measured == 11.0
    assert sum([Cycles(1.0, 9.0), Cycles(1.0, 2.0)]).measured == 11.0


def test_a_floor_is_the_estimates() -> None:
    floored = Cycles(1.0, 9.0).at_least(4.0)
    assert (floored, floored.measured) == (4.0, 9.0)
    assert Cycles(5.0).at_least(4.0) == 5.0
