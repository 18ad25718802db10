"""Every operator alone, made from a problem and knobs as sweeps and tuning make it, against its slow reference."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import tvm
from tvm.s_tir import Schedule

from tvm_fastconv.topi import operators
from tvm_fastconv.topi.build_operator import build
from tvm_fastconv.topi.chain import ChainProblem, operator_of_stage
from tvm_fastconv.topi.conv2d import ConvProblem
from tvm_fastconv.topi.knobs import KnobSet
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.machines import GENERIC
from tvm_fastconv.topi.operators import Sample
from tvm_fastconv.topi.planner import Measured, Planner
from tvm_fastconv.topi.problem import Problem
from tvm_fastconv.topi.schedules.loops import anchors_of

from ..processors import ROWS
from .operator_cases import ON_CPUS, assert_is_reference, random_knobs
from .run_operator import each_isa, machine, run_primfunc

WITHOUT_ANCHOR = {"transpose", "bitpack_planar"}
"""Written as loops already, and nothing is fused behind them."""

MACHINES = {level.machine.name: level.machine for level in GENERIC} | ROWS


def _isa(op: str, isa: str) -> str:
    """Dot products of bytes are one instruction of one kind of processor."""
    return "vnni" if op == "int8_conv2d" else isa


def _default(op: str, problem: Problem, where: Machine) -> KnobSet:
    plan = Planner(where).planned(op, problem)
    assert plan.source == "default"
    return plan.knobs


def _check(op: str, problem: Problem, knobs: KnobSet, isa: str) -> None:
    made = build(op, problem, knobs, machine(isa))
    got = run_primfunc(made.func, list(made.arrays), list(made.result_shape), made.result_dtype, isa)
    assert_is_reference(op, made, got)


def test_every_operator_has_a_case() -> None:
    assert sorted({op for op, _ in ON_CPUS.values()}) == list(operators.operator_names("llvm"))
    assert all(type(problem) is operators.operator_of("llvm", op).problem for op, problem in ON_CPUS.values())


@each_isa
@pytest.mark.parametrize("name", [name for name in ON_CPUS if name != "int8_conv2d"])
def test_the_default_equals_the_reference(name: str, isa: str) -> None:
    op, problem = ON_CPUS[name]
    _check(op, problem, _default(op, problem, machine(isa)), isa)


def test_the_default_of_dot_products_equals_the_reference() -> None:
    op, problem = ON_CPUS["int8_conv2d"]
    _check(op, problem, _default(op, problem, machine("vnni")), "vnni")


def _members(name: str) -> list[KnobSet]:
    op, problem = ON_CPUS[name]
    where = machine(_isa(op, "avx2"))
    return random_knobs(op, problem, where, 3)


@pytest.mark.parametrize(
    ("name", "knobs"),
    [pytest.param(name, k, id=f"{name}-{i}") for name in ON_CPUS for i, k in enumerate(_members(name))],
)
def test_any_knobs_equal_the_reference(name: str, knobs: KnobSet) -> None:
    op, problem = ON_CPUS[name]
    assert type(knobs).from_json(knobs.to_json()) == knobs
    _check(op, problem, knobs, _isa(op, "avx2"))


@pytest.mark.parametrize("name", ON_CPUS)
def test_the_default_is_of_the_space_and_survives_json(name: str) -> None:
    op, problem = ON_CPUS[name]
    for where in MACHINES.values():
        knobs = _default(op, problem, where)
        assert type(knobs).from_json(knobs.to_json()) == knobs
        assert knobs in operators.operator_of(where.kind, op).knobs.space(problem, where), where.name


@pytest.mark.parametrize("name", [name for name, (op, _) in ON_CPUS.items() if op not in WITHOUT_ANCHOR])
def test_a_scheduled_function_says_from_what_it_can_be_made_again(name: str) -> None:
    op, problem = ON_CPUS[name]
    where = machine(_isa(op, "avx2"))
    knobs = _default(op, problem, where)
    sch = Schedule(tvm.IRModule({"main": build(op, problem, knobs, where).func}))
    found = [dict(sch.get(anchor).annotations) for anchor in anchors_of(sch)]
    said = [
        {key: str(notes[key]) for key in ("fastconv.op", "fastconv.problem", "fastconv.knobs")}
        for notes in found
    ]
    once = [
        notes for i, notes in enumerate(said) if notes not in said[:i]
    ]  # what sets sums to zero says it too
    if isinstance(problem, ChainProblem):
        stages = zip(problem.stages, knobs.stages, strict=True)
        assert once == [operators.operator_attrs(operator_of_stage(stage), stage, k) for stage, k in stages]
    else:
        assert once == [operators.operator_attrs(op, problem, knobs)]


@pytest.mark.parametrize("op", sorted(WITHOUT_ANCHOR))
def test_what_has_no_anchor_says_so_itself(op: str) -> None:
    problem = next(problem for name, problem in ON_CPUS.values() if name == op)
    knobs = _default(op, problem, machine("avx2"))
    attrs = build(op, problem, knobs, machine("avx2")).func.attrs
    expected = operators.operator_attrs(op, problem, knobs)
    assert {key: str(attrs[key]) for key in expected} == expected


def _broken(text: str) -> Iterator[str]:
    """``text``, of knobs, with one thing wrong."""
    found = json.loads(text)
    for place in [found, *found.get("stages", [])]:
        for name, value in list(place.items()):
            for wrong in (0, -1, True, 2.0, "4", None):
                place[name] = wrong
                yield json.dumps(found)
            del place[name]
            yield json.dumps(found)
            place[name] = value
        place["telepathy"] = 1
        yield json.dumps(found)
        del place["telepathy"]
    yield from ("{}", "[]", "null", f"[{text}]", text[:-1], "")


@pytest.mark.parametrize("op", operators.operator_names("llvm"))
def test_other_fields_and_values_than_positive_integers_are_refused(op: str) -> None:
    problem = next(problem for name, problem in ON_CPUS.values() if name == op)
    knobs = _default(op, problem, machine("avx2"))
    for text in _broken(knobs.to_json()):
        with pytest.raises(ValueError, match=r"."):
            type(knobs).from_json(text)


def test_an_unknown_operator_is_an_error_that_names_the_known_ones() -> None:
    op, problem = ON_CPUS["conv2d"]
    with pytest.raises(LookupError, match="there is no operator telepathy; known: ") as error:
        build("telepathy", problem, _default(op, problem, machine("avx2")), machine("avx2"))
    assert all(name in str(error.value) for name in operators.operator_names("llvm"))


def test_an_operator_is_registered_once() -> None:
    with pytest.raises(ValueError, match="operator conv2d is registered already"):
        operators.register_operator("conv2d", ConvProblem)


@dataclass(frozen=True, kw_only=True)
class Beads(KnobSet):
    """Of another kind of target than a CPU."""

    rods: int

    @classmethod
    def space(cls, problem: ConvProblem, machine: Machine) -> Iterator[Beads]:
        yield from (cls(rods=rods) for rods in range(1, machine.registers + 1))

    @classmethod
    def default(cls, problem: ConvProblem, machine: Machine) -> Beads:
        return min(cls.space(problem, machine), key=lambda knobs: knobs.cycles(problem, machine))

    def cycles(self, problem: ConvProblem, machine: Machine) -> float:
        return problem.height * problem.width / self.rods


ABACUS = Machine(lanes=1, registers=13, kind="abacus")


@pytest.fixture
def on_an_abacus(monkeypatch: pytest.MonkeyPatch) -> list[KnobSet]:
    """The knobs with which a convolution was made on an abacus."""
    made: list[KnobSet] = []

    def make(problem: ConvProblem, knobs: Beads, _machine: Machine, rng: np.random.Generator) -> Sample:
        made.append(knobs)
        cpu = operators.operator_of("llvm", "conv2d")
        sample = cpu.make(problem, cpu.knobs.default(problem, machine("avx2")), machine("avx2"), rng)
        return dataclasses.replace(sample, func=sample.func.with_attr("tirx.is_scheduled", True))

    monkeypatch.setattr(operators, "_OPERATORS", dict(operators._OPERATORS))
    operators.register_knobs("abacus", "conv2d", Beads, make)
    return made


def test_each_kind_of_target_has_its_own_knobs(on_an_abacus: list[KnobSet]) -> None:
    """The problem is the same; what the planner says and what is built belong to the machine's kind."""
    op, problem = ON_CPUS["conv2d"]
    here, there = (operators.operator_of(kind, op) for kind in ("llvm", "abacus"))
    assert (here.problem, there.problem) == (ConvProblem, ConvProblem)
    assert here.knobs is not there.knobs is Beads
    assert Planner(ABACUS).planned(op, problem).knobs == Beads(rods=13)
    record = {(op, problem.key): Measured(Beads(rods=3).to_json(), 1e6)}
    recorded = Planner(ABACUS, record).planned(op, problem)
    assert (recorded.knobs, recorded.source) == (Beads(rods=3), "record")
    assert Planner(machine("avx2"), record).planned(op, problem).source == "default"
    build(op, problem, recorded.knobs, ABACUS)
    assert on_an_abacus == [recorded.knobs]
    assert operators.operator_names("abacus") == ("conv2d",)


def test_a_kind_that_lacks_an_operator_is_an_error_that_names_both(on_an_abacus: list[KnobSet]) -> None:
    op, problem = ON_CPUS["dense"]
    lacks = "operator dense has no knobs for targets of kind abacus; kinds that it has: cuda, llvm"
    with pytest.raises(LookupError, match=lacks):
        Planner(ABACUS).plan(op, problem)
    with pytest.raises(LookupError, match=lacks):
        build(op, problem, Beads(rods=1), ABACUS)
    with pytest.raises(LookupError, match="kinds that it has: abacus, cuda, llvm"):
        operators.operator_of("sundial", "conv2d")


def test_knobs_are_registered_once_for_a_kind_and_only_of_operators(on_an_abacus: list[KnobSet]) -> None:
    known = operators.operator_of("abacus", "conv2d")
    with pytest.raises(ValueError, match="operator conv2d has knobs for targets of kind abacus already"):
        operators.register_knobs("abacus", "conv2d", known.knobs, known.make)
    with pytest.raises(LookupError, match="there is no operator telepathy; known: "):
        operators.register_knobs("abacus", "telepathy", known.knobs, known.make)
