"""Whether a model is faster with what was recorded, in whole and layer by layer: what is slower in it is withdrawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tvm_fastconv.autotune.comparison import Ratio, paired_ratio
from tvm_fastconv.autotune.local_runner import Runner
from tvm_fastconv.autotune.model_times import ModelTimes
from tvm_fastconv.autotune.records import Conditions, Line, Verdict, Withdrawal, measured
from tvm_fastconv.relay_passes.module.asked_problems import asked_by_layer
from tvm_fastconv.topi.planner import Records

from .compiler import compile_prepared
from .prepare import Prepared
from .runtime.compiled_model import CompiledModel

TURNS = 21
ATTEMPTS = 3
"""How often the model is compiled without what was slower in it, until nothing is."""

Question = tuple[str, str]
"""Operator and key of the problem."""


@dataclass(frozen=True)
class Confirmation:
    """What came of it.

    Attributes
    ----------
    ratio : Ratio, optional
        How many times faster the whole model is with what is left of the records; ``None`` where that could not be
        measured.
    withdrawn : list of Withdrawal
    """

    ratio: Ratio | None
    withdrawn: list[Withdrawal]


def confirm_records(
    prepared: Prepared,
    lines: Sequence[Line],
    conditions: Conditions,
    runner: Runner,
    tell: Callable[[str], None],
) -> Confirmation:
    """Time a model with and without records in turns, and take back those that make it slower.

    A verdict is found with an operator alone. In the model, other code and other data are around it; so every layer's
    time in both is compared as well, and where one that runs with a record is slower by more than the noise, that
    record is withdrawn, and the model compiled again. Should the whole not be faster then, all of its records are.
    """
    inputs = prepared.imported.example_inputs
    withdrawn: list[Withdrawal] = []
    if inputs is None:
        return Confirmation(None, withdrawn)
    tell("comparing the whole model with and without records")
    untuned = _compiled(prepared, {}, runner)
    for attempt in range(1, ATTEMPTS + 1):
        records = measured([*lines, *withdrawn], conditions)
        tuned, used = _compiled(prepared, records, runner), _used(prepared, records)
        if _schedules(untuned) == _schedules(tuned):
            return Confirmation(Ratio(1.0, 1.0, 1.0), withdrawn)
        times = runner.time_models([untuned, tuned], inputs, TURNS)
        if times is None:
            return Confirmation(None, withdrawn)
        ratio = paired_ratio(*(each.whole for each in times))
        slower = slower_questions(untuned, tuned, times, used)
        withdrawn += _withdrawals(lines, conditions, slower)
        if attempt == ATTEMPTS or not slower:
            break
        tell(f"comparing the whole model without {len(withdrawn)} records that made a layer slower")
    if ratio.median < 1:
        withdrawn += _withdrawals(lines, conditions, set(used.values()) - {line.task for line in withdrawn})
    return Confirmation(ratio, withdrawn)


def slower_questions(
    untuned: CompiledModel, tuned: CompiledModel, times: Sequence[ModelTimes], used: Mapping[str, Question]
) -> set[Question]:
    """Of the records that the layers of ``used`` run with, those with which they take longer."""
    before, after = _schedules(untuned), _schedules(tuned)
    layers: dict[Question, list[str]] = defaultdict(list)
    for name, question in used.items():
        if before.get(name) != after.get(name) and all(name in each.layers for each in times):
            layers[question].append(name)
    return {
        question
        for question, names in layers.items()
        if paired_ratio(*(each.sum_of(names) for each in times)).high < 1
    }


def _schedules(model: CompiledModel) -> dict[str, tuple[str, str]]:
    """Name of a layer → what runs, and with which knobs."""
    return {layer.name: (layer.op, layer.schedule) for layer in model.layers}


def _compiled(prepared: Prepared, records: Records, runner: Runner) -> CompiledModel:
    return compile_prepared(prepared, records, threads=runner.device.threads, verify=False)


def _used(prepared: Prepared, records: Records) -> dict[str, Question]:
    """Name of a layer that runs with a record → what the record is of."""
    fused = prepared.dispatched(prepared.planner(records))
    return {name: question for name, question in asked_by_layer(fused).items() if question in records}


def _withdrawals(lines: Sequence[Line], conditions: Conditions, questions: set[Question]) -> list[Withdrawal]:
    last = {line.task: line for line in lines if isinstance(line, Verdict) and line.conditions == conditions}
    fields = ("op", "problem", "knobs", "conditions", "processor", "seconds")
    return [
        Withdrawal(**{name: getattr(last[question], name) for name in fields})
        for question in sorted(questions)
    ]
