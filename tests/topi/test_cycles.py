"""Estimates and measurements are compared with their like."""

import pytest

from tvm_fastconv.topi.cycles import Cycles


def test_it_is_the_estimate() -> None:
    assert Cycles(3.0, 9.0) == 3.0
    assert f"{Cycles(3.0, 9.0):.1f}" == "3.0"


def test_what_was_measured_is_compared_where_both_were() -> None:
    assert Cycles(1.0, 9.0) > Cycles(2.0, 8.0)
    assert Cycles(2.0, 8.0) < Cycles(1.0, 9.0)
    assert Cycles(1.0, 9.0) / Cycles(2.0, 3.0) == 3.0
    assert min(Cycles(1.0, 9.0), Cycles(2.0, 8.0), key=lambda cycles: cycles).measured == 8.0


@pytest.mark.parametrize(("one", "other"), [(Cycles(1.0, 9.0), Cycles(2.0)), (Cycles(1.0), Cycles(2.0, 0.5))])
def test_else_estimates_are(one: Cycles, other: Cycles) -> None:
    assert one < other
    assert one <= other
    assert other >= one
    assert not one > other
    assert one / other == 0.5


def test_a_plain_number_stands_for_both() -> None:
    total = 5.0 + 2 * Cycles(1.0, 9.0) + 1.0
    assert (total, total.measured) == (8.0, 24.0)
    assert Cycles(1.0, 9.0) > 8.0
    assert max(Cycles(1.0, 9.0), 8.0) == 1.0


def test_a_sum_was_measured_if_all_of_it_was() -> None:
    assert (Cycles(1.0, 9.0) + Cycles(1.0)).measured is None
    assert sum([Cycles(1.0, 9.0), Cycles(1.0, 2.0)], start=Cycles(0.0, 0.0)).measured == 11.0
    assert sum([Cycles(1.0, 9.0), Cycles(1.0, 2.0)]).measured == 11.0
