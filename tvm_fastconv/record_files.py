"""Which files of records ``compile`` reads, and what of them holds for it."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tvm

from tvm_fastconv.autotune.candidate import Device
from tvm_fastconv.autotune.conditions import conditions_of
from tvm_fastconv.autotune.records import Line, Verdict, measured, read_records
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.planner import Records

from .gpu_targets import gpu_spec, is_cuda
from .notices import notify
from .runtime.threads import check_threads
from .targets import spec_of
from .verify import obstacle_here

RecordFiles = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None

VARIABLE = "FASTCONV_RECORDS"
"""Environment variable that names files of records, with colons between them."""

SHIPPED = "shipped"
"""In place of a file's name: the records that come with this package."""


def device_for(target: tvm.target.Target, machine: Machine, threads: int | None) -> Device:
    """What measurements for ``target`` are of; machine code is made for one GPU alone.

    Raises
    ------
    InputError
        ``threads`` is no positive number.
    """
    if is_cuda(target):
        check_threads(threads)
        return Device(gpu_spec(target, one_arch=True), machine)
    return Device(spec_of(target), machine, threads_for(threads, target))


def threads_for(threads: int | None, target: tvm.target.Target) -> int:
    """How many threads measurements are to hold for: what was asked; else this machine's, or one elsewhere.

    Raises
    ------
    InputError
        ``threads`` is no positive number.
    """
    return 1 if threads is None and obstacle_here(target) else check_threads(threads)


def records_for(
    files: RecordFiles, target: tvm.target.Target, machine: Machine, threads: int | None
) -> Records:
    """What was measured of problems under the conditions that a model is compiled for.

    Warns where files hold verdicts and none is for these conditions.

    Raises
    ------
    ArtifactError
        A file cannot be read.
    InputError
        ``threads`` is no positive number.
    """
    device = device_for(target, machine, threads)
    paths = [path for name in _names(files) for path in _paths(name)]
    if not paths:
        return {}
    lines: list[Line] = [line for path in paths for line in read_records(path)]
    conditions = conditions_of(device)
    found = measured(lines, conditions)
    others = {line.conditions for line in lines if isinstance(line, Verdict)}
    if others and not found:
        known = "; ".join(sorted(map(str, others))[:3])
        counts = sorted(
            {each.threads for each in others if replace(each, threads=device.threads) == conditions}
        )
        remedy = f"; threads={counts[0]} takes those" if counts else ""
        notify(f"no record is for {conditions}; {', '.join(map(str, paths))} has some for {known}{remedy}")
    return found


def _paths(name: str | os.PathLike[str]) -> Sequence[str | os.PathLike[str]]:
    return sorted(Path(__file__).with_name("records").glob("*.jsonl")) if name == SHIPPED else [name]


def _names(files: RecordFiles) -> Sequence[str | os.PathLike[str]]:
    if files is None:
        return [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    return [files] if isinstance(files, str | os.PathLike) else files
