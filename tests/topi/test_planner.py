"""Who chooses the knobs: the estimate, a record of tuning, or somebody who asks."""

import dataclasses
import json
import logging
from typing import Any

import pytest
import torch
import tvm
from torch import nn
from tvm.s_tir import Schedule

from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import PASS_CONFIG, pipeline
from tvm_fastconv.relay_passes.dense.direct_plan import plan_direct
from tvm_fastconv.relay_passes.module.collect_layers import recorded_calls
from tvm_fastconv.topi.conv2d import ConvProblem
from tvm_fastconv.topi.grouped_conv2d import GroupedProblem
from tvm_fastconv.topi.operators import operator_of
from tvm_fastconv.topi.planner import Measured, Plan, Planner
from tvm_fastconv.topi.problem import Problem
from tvm_fastconv.topi.schedules.cpu.tile import TileKnobs
from tvm_fastconv.topi.schedules.loops import anchors_of
from tvm_fastconv.topi.transpose import TransposeProblem

from .operator_cases import CASES, INPUT, conv
from .run_operator import TARGETS, machine

MACHINE = machine("avx2")
PROBLEM = ConvProblem(**INPUT, conv=conv(40))
DEFAULT = TileKnobs.default(PROBLEM, MACHINE)


def _another(op: str, problem: Problem) -> Any:
    """The best knobs by estimate that are not the default."""
    kind = operator_of(MACHINE.kind, op).knobs
    default = kind.default(problem, MACHINE)
    others = (knobs for knobs in kind.space(problem, MACHINE) if knobs != default)
    return min(others, key=lambda knobs: knobs.cycles(problem, MACHINE))


OTHER = _another("conv2d", PROBLEM)


def test_the_default_has_the_least_estimated_cycles() -> None:
    plan = Planner(MACHINE).plan("conv2d", PROBLEM)
    assert plan == Plan("conv2d", PROBLEM, DEFAULT, DEFAULT.cycles(PROBLEM, MACHINE), "default")
    assert plan.cycles == min(knobs.cycles(PROBLEM, MACHINE) for knobs in TileKnobs.tiles(PROBLEM, MACHINE))


def test_a_record_is_taken_for_its_operator_and_problem_alone() -> None:
    planner = Planner(MACHINE, {("conv2d", PROBLEM.key): Measured(OTHER.to_json(), 1e6)})
    plan = planner.plan("conv2d", dataclasses.replace(PROBLEM))
    assert plan == Plan("conv2d", PROBLEM, OTHER, OTHER.cycles(PROBLEM, MACHINE), "record")
    assert OTHER != DEFAULT
    assert planner.planned("conv2d", dataclasses.replace(PROBLEM, batch=2)).source == "default"
    op, problem = CASES["grouped_conv2d"]
    records = {("conv2d", problem.key): Measured(OTHER.to_json(), 1e6)}
    assert Planner(MACHINE, records).planned(op, problem).source == "default"


def test_whoever_asks_for_knobs_gets_them_with_what_they_cost() -> None:
    plan = Planner(MACHINE, {("conv2d", PROBLEM.key): Measured(DEFAULT.to_json(), 1e6)}).asked(
        "conv2d", PROBLEM, OTHER
    )
    assert plan == Plan("conv2d", PROBLEM, OTHER, OTHER.cycles(PROBLEM, MACHINE), "asked")


FIELDS = dataclasses.asdict(DEFAULT)
ILLEGAL = {
    "another field": (json.dumps(FIELDS | {"unroll": 2}), "does not hold the knobs"),
    "a field less": (json.dumps({name: FIELDS[name] for name in FIELDS if name != "strip"}), "does not hold"),
    "zero": (json.dumps(FIELDS | {"strip": 0}), "knob strip is 0"),
    "no JSON": ("fast", "Expecting value"),
    "too large for the registers": (dataclasses.replace(DEFAULT, vectors=15).to_json(), "not legal here"),
    "of wider vectors": (dataclasses.replace(DEFAULT, lanes=16).to_json(), "not legal here"),
    "of more rows than there are": (dataclasses.replace(DEFAULT, strip=100).to_json(), "not legal here"),
    "of parts that are not equal": (dataclasses.replace(DEFAULT, chunks=7).to_json(), "not legal here"),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_a_record_that_is_no_longer_legal_is_passed_over_and_said_so(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    text, message = ILLEGAL[name]
    with caplog.at_level(logging.WARNING, logger="tvm_fastconv.topi.planner"):
        plan = Planner(MACHINE, {("conv2d", PROBLEM.key): Measured(text, 1e6)}).plan("conv2d", PROBLEM)
    assert (plan.source, plan.knobs) == ("default", DEFAULT)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("a record of conv2d is passed over: ")
    assert message in record.getMessage()


@pytest.mark.parametrize("name", CASES)
def test_equal_problems_have_equal_keys(name: str) -> None:
    _, problem = CASES[name]
    again = dataclasses.replace(problem)
    assert (again, again.key) == (problem, problem.key)
    assert "\n" not in problem.key
    assert json.loads(problem.key)


@pytest.mark.parametrize("name", CASES)
def test_a_key_says_the_whole_problem(name: str) -> None:
    _, problem = CASES[name]
    assert type(problem).from_key(problem.key) == problem


@pytest.mark.parametrize("name", ["conv2d", "chain, inverted bottleneck", "lookup_dense"])
@pytest.mark.parametrize("text", ["{}", "[]", "null", "3", '[["telepathy", {}]]', "[[1]]", '{"batch": 1}'])
def test_what_is_no_key_is_refused(name: str, text: str) -> None:
    _, problem = CASES[name]
    with pytest.raises(ValueError, match=r"problem|stage"):
        type(problem).from_key(text)


def test_of_two_operators_the_one_that_was_measured_to_be_faster_is() -> None:
    problem = GroupedProblem(**INPUT, conv=conv(64, groups=2))
    plain = ConvProblem(**vars(problem))
    planner = Planner(MACHINE)
    rivals = {"grouped_conv2d": problem, "conv2d": plain}
    knobs = {name: planner.planned(name, asked).knobs for name, asked in rivals.items()}
    faster = plan_direct(planner, plain).op
    slower = next(name for name in rivals if name != faster)

    def chosen(*measured: tuple[str, float]) -> str:
        records = {(n, rivals[n].key): Measured(knobs[n].to_json(), cycles) for n, cycles in measured}
        return plan_direct(Planner(MACHINE, records), plain).op

    assert chosen((faster, 2e6), (slower, 1e6)) == slower
    assert chosen((faster, 1e6), (slower, 2e6)) == faster
    # One measurement says nothing of the other: estimates are set against estimates.
    assert chosen((faster, 1e12)) == chosen((slower, 1.0)) == faster


def test_different_problems_have_different_keys() -> None:
    keys = [(op, problem.key) for op, problem in CASES.values()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", [name for name, (op, _) in CASES.items() if op != "chain"])
def test_a_key_tells_every_field(name: str) -> None:
    _, problem = CASES[name]
    for field in dataclasses.fields(problem):
        value = getattr(problem, field.name)
        if type(value) in (int, bool):
            other = dataclasses.replace(
                problem, **{field.name: value + 1 if type(value) is int else not value}
            )
            assert other.key != problem.key, field.name


def test_where_an_operator_has_no_knobs_there_is_no_plan() -> None:
    planner, small = Planner(MACHINE), TransposeProblem(rows=2, columns=3)
    assert planner.plan("transpose", small) is None
    with pytest.raises(LookupError, match="transpose has no knobs for ") as error:
        planner.planned("transpose", small)
    assert small.key in str(error.value)
    assert MACHINE.name in str(error.value)


def test_an_unknown_operator_is_an_error() -> None:
    for records in ({}, {("telepathy", PROBLEM.key): Measured("{}", 1.0)}):
        with pytest.raises(LookupError, match="there is no operator telepathy"):
            Planner(MACHINE, records).plan("telepathy", PROBLEM)


IMAGE = torch.randn(2, 24, 14, 11, generator=torch.Generator().manual_seed(0))
LAYERS: dict[str, tuple[nn.Module, torch.Tensor]] = {
    "conv2d": (nn.Conv2d(24, 40, 3, 2, 1), IMAGE),
    "grouped_conv2d": (nn.Conv2d(24, 40, 3, padding=1, groups=4), IMAGE),
    "winograd_conv2d": (nn.Conv2d(24, 40, 5, padding=2), IMAGE),
    "depthwise_conv2d": (nn.Conv2d(24, 24, 3, padding=1, groups=24), IMAGE),
    "max_pool2d": (nn.MaxPool2d(3, 2), IMAGE),
    "avg_pool2d": (nn.AvgPool2d(3, 2), IMAGE),
    "dense": (nn.Linear(24, 40), IMAGE[0, :, 0].T),
}


def _made(model: nn.Module, x: torch.Tensor, planner: Planner) -> tuple[list[dict[str, str]], list[str]]:
    """What the anchors of the scheduled functions say, and the knobs in the report."""
    passes = [*pipeline.graph_passes(planner), *pipeline.schedule_passes(TARGETS["avx2"], planner.machine)]
    with TARGETS["avx2"], tvm.transform.PassContext(config=PASS_CONFIG):
        mod = tvm.transform.Sequential(passes)(import_model(model.eval(), (x,)).mod)
    schedules = [
        Schedule(tvm.IRModule({"main": f}))
        for f in mod.functions.values()
        if isinstance(f, tvm.tirx.PrimFunc)
    ]
    notes = [sch.get(anchor).annotations for sch in schedules for anchor in anchors_of(sch)]
    said = [{key: str(value) for key, value in each.items()} for each in notes]
    layers = [layer for call in recorded_calls(mod) for layer in call.layers]
    return said, [layer["schedule"] for layer in layers if "schedule" in layer]


@pytest.mark.parametrize("op", LAYERS)
def test_a_record_acts_at_dispatch(op: str) -> None:
    model, x = LAYERS[op]
    first = Planner(MACHINE)
    said, _ = _made(model, x, first)
    ((name, key),) = {(notes["fastconv.op"], notes["fastconv.problem"]) for notes in said}
    assert name == op
    problems = {(name, problem.key): problem for name, problem in first.questions}
    other = _another(op, problems[op, key])
    said, schedules = _made(model, x, Planner(MACHINE, {(op, key): Measured(other.to_json(), 1e6)}))
    assert {(n["fastconv.op"], n["fastconv.problem"], n["fastconv.knobs"]) for n in said} == {
        (op, key, other.to_json())
    }
    assert set(schedules) <= {other.to_json()}
