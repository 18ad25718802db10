"""A batch as one static program: for a device that has neither Python nor TVM's runtime."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tvm

import tvm_fastconv
from tvm_fastconv.artifact.c_compiler import find_program_compiler
from tvm_fastconv.artifact.c_header import POOL_HEADER, c_string
from tvm_fastconv.artifact.kernels import compile_functions
from tvm_fastconv.targets import resolve_target, triple_of
from tvm_fastconv.temporary import temporary_folder
from tvm_fastconv.topi.build_operator import PASS_CONFIG, build
from tvm_fastconv.topi.operators import Sample
from tvm_fastconv.typed_json import one_line

from .batch_files import Job
from .candidate import Candidate, Device

PROGRAM = "measure"

SCRATCH = ".scratch"
"""Behind a library's name: the file that says how many bytes a task of its function takes at most."""

_PREFIX = "candidate_"
"""Of the functions' names."""

_HEAD = """#include "jobs.h"

const int job_count = {jobs}, thread_count = {threads};
const size_t scratch_bytes = {scratch};
const char conditions[] = "{conditions}";
"""


def compile_candidate(candidate: Candidate, device: Device, path: Path) -> Sample:
    """Build ``candidate`` for ``device``, as the object file ``path`` with a function in C's convention.

    Raises
    ------
    ValueError
        A program cannot measure it.
    """
    made = build(candidate.task.op, candidate.task.problem, candidate.knobs, device.machine)
    if made.shape is not None:
        raise ValueError(
            "a program measures functions of fixed shapes, and this one takes any number of rows"
        )
    if made.result_dtype.startswith("float") and made.result_dtype != "float32":
        raise ValueError(f"a program compares floats of 32 bits, and this answer is {made.result_dtype}")
    target = resolve_target(device.target)
    functions = tvm.IRModule({path.stem: made.func.with_attr("global_symbol", path.stem)})
    with target, tvm.transform.PassContext(opt_level=3, config=PASS_CONFIG):
        kernels = compile_functions(functions, target, _PREFIX)
    kernels.module.write_to_file(str(path), "o")
    path.with_suffix(SCRATCH).write_text(str(max(kernels.scratch_bytes.values(), default=0)))
    return made


def check_program_compiler(device: Device) -> None:
    """Link an empty program.

    Raises
    ------
    TargetError
        That is not possible.
    """
    with temporary_folder() as folder:
        (folder / "empty.c").write_text("int main(void) { return 0; }\n")
        compiler = find_program_compiler(triple_of(resolve_target(device.target)))
        compiler.compile(folder, "empty.c", "empty.o")
        compiler.link_program(folder, ["empty.o"], "empty")


def write_program(jobs: Sequence[Job], device: Device, conditions: str, folder: Path) -> None:
    """Link what measures ``jobs``, whose candidates `compile_candidate` has written into ``folder``; they are removed.

    Raises
    ------
    TargetError
        The C compiler fails.
    """
    libraries = list(dict.fromkeys(made.library for job in jobs for made in job.candidates))
    work = folder / "program"
    work.mkdir()
    scratch = max((int((folder / name).with_suffix(SCRATCH).read_text()) for name in libraries), default=0)
    for made in [*folder.glob("*.o"), *folder.glob(f"*{SCRATCH}")]:
        made.rename(work / made.name)
    package = Path(tvm_fastconv.__file__).parent
    for name in ("kit_pool.h", "kit_pool.c"):
        text = (
            (package / "kit" / "library" / name)
            .read_text(encoding="utf-8")
            .replace("@name@.h", "fastconv_pool.h")
        )
        (work / name).write_text(text, encoding="utf-8")
    (work / "fastconv_pool.h").write_text(POOL_HEADER)
    for source in (*(Path(__file__).parent / "program").iterdir(), package / "measure" / "clock.c"):
        shutil.copy(source, work)
    head = _HEAD.format(
        jobs=len(jobs), threads=device.threads, scratch=max(scratch, 1), conditions=_in_json(conditions)
    )
    (work / "batch.c").write_text(head + _tables(jobs, folder))
    compiler = find_program_compiler(triple_of(resolve_target(device.target)))
    sources = ("main", "run_job", "batch", "kit_pool", "clock")
    for name in sources:
        compiler.compile(work, f"{name}.c", f"{name}.o")
    compiler.link_program(work, [*(f"{name}.o" for name in sources), *libraries], PROGRAM)
    (work / PROGRAM).rename(folder / PROGRAM)
    shutil.rmtree(work)


def _tables(jobs: Sequence[Job], folder: Path) -> str:
    """The jobs in C."""
    made = {each.library: each for job in jobs for each in job.candidates}
    number = {library: i for i, library in enumerate(made)}
    parts: list[str] = []
    for library, i in number.items():
        arrays, function = made[library].arrays, _PREFIX + Path(library).stem
        given = ", ".join(f"t[{at}]" for at in range(len(arrays) + 1))
        parts += (
            f"\nint {function}({', '.join(['void*'] * (len(arrays) + 1))});\n",
            f"static int call_{i}(char** t) {{ return {function}({given}); }}\n",
            f"static const struct array arrays_{i}[] = {{{', '.join(_array(folder / name) for name in arrays)}}};\n",
        )
    rows: list[str] = []
    for at, job in enumerate(jobs):
        candidates = ", ".join(
            f"{{call_{i}, {len(each.arrays)}, arrays_{i}}}"
            for each in job.candidates
            for i in [number[each.library]]
        )
        parts.append(f"\nstatic const struct candidate candidates_{at}[] = {{{candidates}}};\n")
        floats = _are_floats(folder / job.expected)
        footprint = -1 if job.footprint is None else job.footprint
        answer = _array(folder / job.expected)
        numbers = f"candidates_{at}, {len(job.candidates)}, {floats}, {job.turns}, {footprint}"
        rows.append(f"  {{{_text(_described(job))}, {answer}, {numbers}}},\n")
    return "".join(parts) + f"\nconst struct job jobs[] = {{\n{''.join(rows)}}};\n"


def _described(job: Job) -> str:
    """What the fields of a job's `Result` are before it has run, without the braces around them."""
    knobs = [each.knobs for each in job.candidates]
    fields = {"contest": job.footprint is not None, "knobs": knobs, "op": job.op, "problem": job.problem}
    return one_line(fields)[1:-1]


def _are_floats(expected: Path) -> int:
    """Whether an answer is compared with a tolerance, and not by its bytes."""
    return int(np.load(expected, mmap_mode="r").dtype == np.float32)


def _array(file: Path) -> str:
    """A file of NumPy's in C."""
    return f"{{{_text(file.name)}, {np.load(file, mmap_mode='r').nbytes}}}"


def _in_json(text: str) -> str:
    """``text`` inside of a string of JSON, inside of a string of C."""
    return c_string(one_line(text)[1:-1])


def _text(text: str) -> str:
    return f'"{c_string(text)}"'
