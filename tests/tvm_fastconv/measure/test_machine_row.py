import pytest

from tvm_fastconv.errors import FastconvError
from tvm_fastconv.measure import machine_row
from tvm_fastconv.targets import NATIVE_CPU, resolve_target
from tvm_fastconv.topi.machines import machine_of


def test_a_row_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which fields are measured; what they come to depends on how busy the machine is, and `Machine` bounds it."""
    monkeypatch.setattr(machine_row, "REPEATS", 1)
    measured, table = machine_row.measure_machine(), machine_of(resolve_target("native"))
    same = ("kind", "lanes", "registers", "counts_words", "dot_products", "load_cost", "tap_cost")
    assert all(getattr(measured, field) == getattr(table, field) for field in same)
    assert measured.name == f"{table.name}-measured"
    assert measured.l1_bytes < measured.l2_bytes
    assert measured.half_vector_cost <= 1


def test_no_figure_rounds_to_nothing() -> None:
    assert [machine_row.figure(value, 2) for value in (1.2345, 0.004, 0.0)] == [1.23, 0.01, 0.01]


def test_a_machine_that_native_does_not_stand_for_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    table = machine_of(resolve_target("native"))
    other = {16: "haswell", 8: "nehalem", 4: None}[table.lanes]
    if other is None:
        pytest.skip("no processor has shorter vectors than this one")
    monkeypatch.setenv(NATIVE_CPU, other)
    with pytest.raises(FastconvError, match=f"vectors of {table.lanes} floats"):
        machine_row.measure_machine()


def test_without_a_compiler_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(FastconvError, match="cannot be measured: no C compiler 'no-such-compiler'"):
        machine_row.measure_machine()
