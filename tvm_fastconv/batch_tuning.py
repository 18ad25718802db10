"""Tuning for a device that no network reaches: batches of candidates go there, their times come back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tvm

from tvm_fastconv.autotune.batch_files import Results, read_results
from tvm_fastconv.autotune.batch_plan import plan_batch, take_results
from tvm_fastconv.autotune.conditions import conditions_of
from tvm_fastconv.autotune.records import Conditions, Verdict, read_records
from tvm_fastconv.autotune.tasks import Tasks
from tvm_fastconv.autotune.write_batch import write_batch
from tvm_fastconv.topi.gpu import gpu_named
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.typed_json import from_json, one_line

from .artifact.artifact import check_output_path, reason
from .errors import ArtifactError, InputError, TargetError
from .extras import require
from .gpu_targets import is_cuda
from .machine_files import target_and_machine
from .method_patterns import Methods
from .notices import notify
from .prepare import prepare
from .record_files import device_for
from .targets import require_runtime
from .tuned_network import TunedNetwork
from .tvm_log import quiet_tvm

TRIALS = 200
"""Of a batch: 20 s on a fast machine, a few minutes on a slow one."""

NOMINAL_CLOCK = 2e9
"""Hz, of a device that has not told its own; estimates are divided by it."""


@dataclass(frozen=True)
class ExportedBatch:
    """What was written for a device.

    Attributes
    ----------
    jobs : int
        Candidates and contests; where there are none, all is decided, and nothing was written.
    failed : int
        Candidates that could not be built.
    bytes : int
        Of the folder.
    """

    jobs: int
    failed: int
    bytes: int


@dataclass(frozen=True)
class ImportedBatch:
    """What came of a batch.

    Attributes
    ----------
    trials : int
        Candidates that were measured.
    failures : dict of str to int
        Why some of them have no time, and how many.
    verdicts : tuple of Verdict
        What was added to the records.
    known : int
        Results that the records hold already.
    alien : int
        Results that this model does not ask for.
    """

    trials: int
    failures: dict[str, int]
    verdicts: tuple[Verdict, ...]
    known: int
    alien: int


@quiet_tvm()
def export_batch(
    model: Any,
    example_inputs: Any = None,
    *,
    folder: str | os.PathLike[str],
    records: str | os.PathLike[str],
    target: str | Path | tvm.target.Target = "native",
    machine: Machine | str | Path | None = None,
    methods: Methods | None = None,
    trials: int = TRIALS,
    threads: int | None = None,
    allow_tf32: bool = False,
    seed: int = 0,
    program: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ExportedBatch:
    """Write the next candidates for a model into a folder, to be measured on the device that will run it.

    There, ``python3 measure.pyz`` measures them; it needs NumPy, ``tvm_ffi`` and TVM's runtime library. Or ``measure``
    does, a static program that needs nothing (``program``). `import_batch`
    takes the ``results.json`` that it writes, and the next batch goes on from there. After the first, batches also
    hold contests between the fastest candidates and the defaults, whose verdicts are what `compile` takes.

    Parameters
    ----------
    model, example_inputs, target, machine, methods, allow_tf32
        As for `compile`, which takes the records for the same of them.
    folder : path
        Where nothing is yet.
    records : path
        What was measured before, if there is such a file.
    trials : int, optional
        Candidates to try at most.
    threads : int, optional
        That the model is to run with; by default this machine's, or one where the target is another machine.
    seed : int
    program : bool
        Write a static program in place of the script for Python.
    progress : callable, optional
        Called with a line on each step.

    Returns
    -------
    ExportedBatch

    Raises
    ------
    ModelError, TargetError, MethodError
        As by `compile`.
    ArtifactError
        The folder is there already, or cannot be written; the records cannot be read.
    InputError
        ``trials`` or ``threads`` is no positive number.
    """
    require("xgboost")
    if not trials > 0:
        raise InputError(f"trials is {trials!r}; allowed: more than 0")
    resolved = target_and_machine(target, machine)[0]
    if not program:
        require_runtime(resolved)
    elif is_cuda(resolved):
        raise TargetError("no static program can measure on a GPU; the script for Python can")
    path = Path(folder)
    if path.exists():
        raise ArtifactError(f"{folder} is there already; a batch goes into a new folder")
    tell = progress or (lambda step: None)
    tasks = _tasks(model, example_inputs, records, target, machine, methods, threads, allow_tf32, seed, tell)
    groups = plan_batch(tasks, trials)
    if not groups:
        return ExportedBatch(0, 0, 0)
    count = len({candidate for group in groups for candidate in group.candidates})
    try:
        jobs, failed = write_batch(
            groups,
            tasks.device,
            _told(tasks.conditions),
            path,
            lambda done: tell(f"building candidates: {done} of {count}"),
            program,
        )
        size = sum(file.stat().st_size for file in path.iterdir())
    except OSError as error:
        raise ArtifactError(f"cannot write the batch {folder}: {reason(error)}") from None
    tasks.observe([candidate for candidate, _ in failed], [outcome for _, outcome in failed])
    return ExportedBatch(jobs, len(failed), size)


@quiet_tvm()
def import_batch(
    model: Any,
    example_inputs: Any = None,
    *,
    results: str | os.PathLike[str],
    records: str | os.PathLike[str],
    target: str | Path | tvm.target.Target = "native",
    machine: Machine | str | Path | None = None,
    methods: Methods | None = None,
    threads: int | None = None,
    allow_tf32: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ImportedBatch:
    """Add what a device measured to a file of records.

    Parameters
    ----------
    model, example_inputs, records, target, machine, methods, threads, allow_tf32, progress
        As for `export_batch`, which wrote what was measured.
    results : path
        The ``results.json`` that came back.

    Returns
    -------
    ImportedBatch

    Raises
    ------
    ModelError, TargetError, MethodError
        As by `compile`.
    ArtifactError
        The results or the records cannot be read, or the records cannot be written.
    InputError
        The results are for another target, version or model, or ``threads`` is no positive number.
    """
    check_output_path(records)
    try:
        found = read_results(Path(results))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot read the results {results}: {reason(error)}") from None
    tell = progress or (lambda step: None)
    tasks = _tasks(
        model, example_inputs, records, target, machine, methods, threads, allow_tf32, 0, tell, found
    )
    if found.conditions != _told(tasks.conditions):
        raise InputError(f"the results are for {_words(found.conditions)}, not for {tasks.conditions}")
    elsewhere = not tasks.device.on_gpu and not tasks.device.target.startswith("x86")
    if elsewhere and re.search(r"\b(AMD|Intel)\b", found.processor):
        notify(
            f"these times are an emulator's: the results for {tasks.conditions.cpu} are of {found.processor}"
        )
    seen = gpu_named(found.processor) if tasks.device.on_gpu else None
    if seen is not None and seen.name != tasks.conditions.cpu:
        notify(f"the results for {tasks.conditions.cpu} are of {found.processor}")
    taken = take_results(tasks, found.results)
    if found.results and taken.alien == len(found.results):
        raise InputError(f"none of the {taken.alien} results is of a layer of this model")
    return ImportedBatch(taken.trials, dict(tasks.failures), tuple(taken.verdicts), taken.known, taken.alien)


def _tasks(
    model: Any,
    example_inputs: Any,
    records: str | os.PathLike[str],
    target: str | Path | tvm.target.Target,
    machine: Machine | str | Path | None,
    methods: Methods | None,
    threads: int | None,
    allow_tf32: bool,
    seed: int,
    tell: Callable[[str], None],
    results: Results | None = None,
) -> Tasks:
    """What is known of a model's tasks on the device."""
    known = read_records(records) if os.path.exists(records) else []
    resolved, row = target_and_machine(target, machine)
    device = device_for(resolved, row, threads)
    network = TunedNetwork(
        prepare(model, example_inputs, device.target, row, methods, None, tell, allow_tf32=allow_tf32)
    )
    clock, processor = (NOMINAL_CLOCK, "") if results is None else (results.clock, results.processor)
    clock = device.nominal_clock or clock
    return Tasks(network, device, conditions_of(device), str(records), clock, processor, known, seed)


def _told(conditions: Conditions) -> str:
    return one_line(asdict(conditions))


def _words(told: str) -> str:
    try:
        return str(from_json(Conditions, json.loads(told), "conditions"))
    except (ValueError, RecursionError):
        return "conditions of another version"
