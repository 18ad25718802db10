"""``tune``: find faster knobs and operators for a model, on the device that will run it."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from tvm_fastconv.autotune.comparison import Ratio
from tvm_fastconv.autotune.conditions import conditions_of
from tvm_fastconv.autotune.local_runner import LocalRunner, Runner
from tvm_fastconv.autotune.records import Verdict, Withdrawal, append_records, read_records
from tvm_fastconv.autotune.tasks import Tasks
from tvm_fastconv.autotune.tuner import Budget, Tuner
from tvm_fastconv.topi.gpu import Gpu, gpu_named
from tvm_fastconv.topi.machine import Machine

from .artifact.artifact import check_output_path
from .confirm_records import confirm_records
from .errors import InputError
from .extras import require
from .gpu_targets import arches_of, is_cuda
from .machine_files import target_and_machine
from .method_patterns import Methods
from .notices import notify
from .prepare import prepare
from .record_files import device_for
from .runtime.cpu import missing_features
from .runtime.gpu import compute_capability, device_name, gpu_obstacle
from .runtime.threads import check_threads
from .targets import cpu_features
from .tuned_network import TunedNetwork
from .tvm_log import quiet_tvm


@dataclass(frozen=True)
class Tuning:
    """What came of tuning.

    Attributes
    ----------
    verdicts : tuple of Verdict
        What was added to the records, one for each operator and problem that the model may run.
    trials : int
        Candidates that were measured.
    network : Ratio, optional
        How many times faster the whole model is than untuned, in turns; ``None`` where that could not be measured.
    withdrawn : tuple of Withdrawal
        Of records with which layers of the model, or the whole, were slower than without.
    """

    verdicts: tuple[Verdict, ...]
    trials: int
    network: Ratio | None
    withdrawn: tuple[Withdrawal, ...]


def _obstacle(target: tvm.target.Target, machine: Machine) -> str | None:
    """Why candidates for ``target`` cannot be measured here, as those of ``machine``."""
    if is_cuda(target):
        return gpu_obstacle(arches_of(target)) or _other_gpu(target, machine)
    missing = missing_features(cpu_features(target))
    return f"it lacks {', '.join(missing)}" if missing else None


def _other_gpu(target: tvm.target.Target, machine: Machine) -> str | None:
    """Why the GPU that is here is none of ``machine``'s; whoever meant its architecture is told what stands for it."""
    name, arch = device_name() or "a GPU", int(str(target.attrs["arch"]).removeprefix("sm_"))
    if arch != compute_capability():
        return f"its {name} is sm_{compute_capability()}, not sm_{arch}"
    row = gpu_named(name)
    if row is not None and row.name != machine.name and isinstance(machine, Gpu):
        return f"its GPU is {name}, not {machine.name}; tune for {row.name}"
    if row is None:
        notify(f"{name} has no row of its own: its records stand for all that are tuned as {machine.name}")
    return None


@quiet_tvm()
def tune(
    model: Any,
    example_inputs: Any = None,
    *,
    records: str | os.PathLike[str],
    target: str | Path | tvm.target.Target = "native",
    machine: Machine | str | Path | None = None,
    methods: Methods | None = None,
    trials: int | None = None,
    seconds: float | None = None,
    threads: int | None = None,
    allow_tf32: bool = False,
    runner: Runner | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    show: Callable[[Tasks], None] | None = None,
) -> Tuning:
    """Find faster knobs and operators for a model, and add what was found to a file of records.

    The default knobs of every operator are its first trial, and others are recorded only where they beat them in turns
    by more than the noise. A later call with the same file goes on where this one ended; nothing is measured twice.

    Parameters
    ----------
    model, example_inputs, target, machine, methods, allow_tf32
        As for `compile`, which takes the records for the same of them.
    records : path
        The file of records, which grows; it is made where there is none.
    trials : int, optional
        Candidates to measure at most.
    seconds : float, optional
        Time to search at most; verdicts, and comparing the whole model at the end, come on top. Without ``trials``
        and ``seconds``, the search ends where little is left to expect.
    threads : int, optional
        That the model is to run with; by default one for each core. Says nothing to a GPU.
    runner : Runner, optional
        Where candidates are measured, such as an `RPCRunner`, which then says what ``target``, ``machine`` and
        ``threads`` are; by default worker processes of this machine.
    seed : int
    progress : callable, optional
        Called with the name of each step as it begins.
    show : callable, optional
        Called with the `Tasks` whenever something was measured.

    Raises
    ------
    ModelError, TargetError, MethodError
        As by `compile`.
    ArtifactError
        The records cannot be read or written.
    InputError
        ``trials``, ``seconds`` or ``threads`` is no positive number, or ``target`` cannot run here.
    """
    require("xgboost", "cloudpickle", "psutil")
    for name, value in (("trials", trials), ("seconds", seconds)):
        if value is not None and not value > 0:
            raise InputError(f"{name} is {value!r}; allowed: more than 0")
    threads, tell = check_threads(threads), progress or (lambda step: None)
    check_output_path(records)
    known = read_records(records) if os.path.exists(records) else []
    if runner is None:
        resolved, row = target_and_machine(target, machine)
        if reason := _obstacle(resolved, row):
            raise InputError(f"this machine cannot run what is compiled for {target}: {reason}")
        runner = LocalRunner(device_for(resolved, row, threads))
    device = runner.device
    prepared = prepare(
        model, example_inputs, device.target, device.machine, methods, None, tell, allow_tf32=allow_tf32
    )
    conditions = conditions_of(device)
    tell("tuning")
    budget = Budget(trials or math.inf, seconds or math.inf)
    try:
        tasks = Tasks(
            TunedNetwork(prepared),
            device,
            conditions,
            str(records),
            runner.clock,
            runner.processor,
            known,
            seed,
        )
        verdicts = Tuner(tasks, runner, budget, show or (lambda tasks: None)).run()
        found = confirm_records(prepared, [*known, *verdicts], conditions, runner, tell)
    finally:
        runner.close()
    if found.withdrawn:
        append_records(records, found.withdrawn)
    return Tuning(tuple(verdicts), budget.used, found.ratio, tuple(found.withdrawn))
