"""A batch for a device that no network reaches: candidates as files, and the script or program that measures them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tvm_fastconv.artifact.c_compiler import find_compiler
from tvm_fastconv.gpu_targets import arches_of
from tvm_fastconv.targets import cpu_features, resolve_target, triple_of

from .batch_files import BATCH, Batch, Built, Job, write
from .batch_program import check_program_compiler, compile_candidate, write_program
from .candidate import Candidate, Device, Group, Outcome, Task
from .link_candidate import link_candidate
from .local_runner import BUILD_SECONDS
from .measure_batch import CLOCK
from .processes import Worker, WorkerError, raise_compilers_error

SCRIPT = "measure.pyz"

MODULES = (
    "", "architectures", "architectures.aarch64", "architectures.architecture", "architectures.armv7l",
    "architectures.x86_64", "autotune",
    "autotune.batch_files", "autotune.check_answer", "autotune.gpu_calls", "autotune.measure_batch",
    "autotune.measure_job", "autotune.worker", "errors", "measure", "measure.cold_caches", "measure.gpu_timing",
    "measure.roofline", "measure.timing", "notices", "regular_files", "runtime", "runtime.cpu", "runtime.cudart",
    "runtime.device", "runtime.gpu", "runtime.threads", "runtime.tvm_runtime", "temporary", "typed_json",
)  # fmt: skip
"""Of this package, what the script imports."""

MAIN = """import sys

try:
    from tvm_fastconv.autotune.measure_batch import main
except ImportError as error:
    sys.exit(f"measuring takes NumPy, tvm_ffi and TVM's runtime library: {error}")
main()
"""

Failures = list[tuple[Candidate, Outcome]]


def write_batch(
    groups: Sequence[Group],
    device: Device,
    conditions: str,
    folder: Path,
    show: Callable[[int], None] = lambda count: None,
    program: bool = False,
) -> tuple[int, Failures]:
    """Build candidates, and write all that measuring them on ``device`` takes into ``folder``, which is new.

    Parameters
    ----------
    groups : sequence of Group
    device : Device
    conditions : str
        Comes back with the results.
    folder : Path
    show : callable, optional
        Called with the number of candidates that are built.
    program : bool, optional
        Write a static program instead of a script for Python.

    Returns
    -------
    tuple of int and list
        How many groups are in the batch, and the candidates that could not be built.

    Raises
    ------
    TargetError
        There is no C compiler for the device.
    """
    folder.mkdir(parents=True)
    try:
        if program:
            check_program_compiler(device)
        elif not device.on_gpu:
            write_clock(device, folder)
        built, expected, failed = _build(groups, device, folder, show, program)
        jobs = tuple(_jobs(groups, built, expected))
        if program:
            write_program(jobs, device, conditions, folder)
            return len(jobs), failed
        target = resolve_target(device.target)
        batch = Batch(
            conditions=conditions, features=tuple(cpu_features(target)), threads=device.threads, jobs=jobs,
            gpu_arch=arches_of(target)[0] if device.on_gpu else None,
        )  # fmt: skip
        _write_script(folder / SCRIPT)
        write(batch, folder / BATCH)
        return len(jobs), failed
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_clock(device: Device, folder: Path) -> None:
    """Compile what tells the device's clock."""
    compiler = find_compiler(triple_of(resolve_target(device.target)))
    source = _file_of("measure").with_name("clock.c")
    shutil.copy(source, folder)
    compiler.compile(folder, source.name, "clock.o")
    compiler.link(folder, ["clock.o"], CLOCK, ())
    for name in (source.name, "clock.o"):
        (folder / name).unlink()


def build_files(
    candidate: Candidate, device: Device, folder: Path, program: bool = False
) -> tuple[Built, str]:
    """Write a candidate's code and data; returns them, and the file of the expected answer. Runs in a worker."""
    make, suffix = (compile_candidate, "o") if program else (link_candidate, "so")
    library = f"{_digest(*candidate.task.key, candidate.knobs.to_json())}.{suffix}"
    made = make(candidate, device, folder / library)
    arrays = tuple(_save(array, folder) for array in made.arrays)
    expected = f"{_digest(*candidate.task.key)}.npy"
    if not (folder / expected).exists():
        _replace(made.reference(), folder / expected)
    return Built(knobs=candidate.knobs.to_json(), library=library, arrays=arrays), expected


def _build(
    groups: Sequence[Group], device: Device, folder: Path, show: Callable[[int], None], program: bool
) -> tuple[dict[Candidate, Built], dict[Task, str], Failures]:
    """Every candidate once, as many at a time as there are cores."""
    waiting = list(dict.fromkeys(candidate for group in groups for candidate in group.candidates))
    workers = [Worker() for _ in os.sched_getaffinity(0)]
    built: dict[Candidate, Built] = {}
    expected: dict[Task, str] = {}
    failed: Failures = []
    try:
        for first in range(0, len(waiting), len(workers)):
            busy = list(zip(workers, waiting[first:], strict=False))
            for worker, candidate in busy:
                worker.send(build_files, candidate, device, folder, program)
            for worker, candidate in busy:
                try:
                    built[candidate], expected[candidate.task] = worker.receive(BUILD_SECONDS)
                except WorkerError as error:
                    raise_compilers_error(error)
                    failed.append((candidate, Outcome(None, str(error))))
            show(first + len(busy))
    finally:
        for worker in workers:
            worker.close()
    return built, expected, failed


def _jobs(
    groups: Sequence[Group], built: Mapping[Candidate, Built], expected: Mapping[Task, str]
) -> Iterator[Job]:
    for group in groups:
        found = tuple(built[candidate] for candidate in group.candidates if candidate in built)
        if group.candidates[0] in built:
            task = group.candidates[0].task
            op, problem = task.key
            yield Job(
                op=op, problem=problem, candidates=found, expected=expected[task], turns=group.turns,
                footprint=group.footprint,
            )  # fmt: skip


def _write_script(path: Path) -> None:
    """The modules that measure, as one file that Python runs."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in MODULES:
            file = _file_of(name)
            package = f"tvm_fastconv/{name.replace('.', '/')}".rstrip("/")
            if file.name == "__init__.py":
                archive.write(file, f"{package}/__init__.py")
            else:
                archive.write(file, f"{package}.py")
        archive.writestr("__main__.py", MAIN)


def _file_of(module: str) -> Path:
    found = importlib.util.find_spec(f"tvm_fastconv.{module}".rstrip("."))
    assert found is not None
    assert found.origin is not None
    return Path(found.origin)


def _save(array: np.ndarray, folder: Path) -> str:
    """Write an array, equal ones once; returns the name."""
    name = f"{_digest(str(array.dtype), str(array.shape), np.ascontiguousarray(array))}.npy"
    if not (folder / name).exists():
        _replace(array, folder / name)
    return name


def _replace(array: np.ndarray, path: Path) -> None:
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    np.save(unfinished, np.asarray(array, order="C"), allow_pickle=False)
    os.replace(unfinished, path)


def _digest(*parts: str | np.ndarray) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() + b"\0" if isinstance(part, str) else part.data)
    return found.hexdigest()[:24]
