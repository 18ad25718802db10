"""Batches measured by a static program, on a device without Python."""

import fcntl
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tvm_fastconv.artifact.c_compiler import CCompiler, find_compiler
from tvm_fastconv.autotune import batch_program
from tvm_fastconv.autotune.batch_files import RESULTS, Built, Job, Results, read_results
from tvm_fastconv.autotune.batch_program import PROGRAM, SCRATCH, write_program
from tvm_fastconv.autotune.candidate import Device
from tvm_fastconv.autotune.measure_batch import MEASURED
from tvm_fastconv.autotune.write_batch import write_batch
from tvm_fastconv.errors import TargetError
from tvm_fastconv.machine_files import target_and_machine
from tvm_fastconv.runtime.cpu import processor_name
from tvm_fastconv.targets import spec_of, triple_of

from .fake import groups_for

TOLD = 'a "day" in May'


def _device(target: str = "native", threads: int = 1) -> Device:
    resolved, machine = target_and_machine(target)
    return Device(spec_of(resolved), machine, threads)


def _write(device: Device, folder: Path) -> Path:
    jobs, failed = write_batch(groups_for(device), device, TOLD, folder, program=True)
    assert (jobs, failed) == (7, [])
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(_device(), tmp_path_factory.mktemp("programs") / "batch")


@pytest.fixture
def batch(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(written, tmp_path / "batch"))


def _measure(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(folder / PROGRAM)]
    return subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, timeout=600, check=False)


def _results(folder: Path) -> Results:
    done = _measure(folder)
    assert (done.returncode, done.stderr) == (0, "")
    return read_results(folder / RESULTS)


def _check(found: Results, device: Device) -> None:
    """All is there: every job, in order, without an error."""
    assert [result.error for result in found.results] == [None] * 7
    assert found.conditions == TOLD
    assert [len(result.times) for result in found.results] == [1, 1, 1, 1, 1, 1, 2]
    assert [len(result.times[0]) for result in found.results] == [3, 3, 3, 3, 3, 3, 7]
    asked = [
        (group.candidates[0].task.key, [candidate.knobs.to_json() for candidate in group.candidates])
        for group in groups_for(device)
    ]
    assert [((result.op, result.problem), list(result.knobs)) for result in found.results] == asked
    assert [result.contest for result in found.results] == [False] * 6 + [True]


@pytest.mark.native
def test_it_measures_as_the_script_does(batch: Path) -> None:
    assert not [path for path in batch.iterdir() if path.suffix not in (".npy", "")]
    found = _results(batch)
    _check(found, _device())
    assert found.processor == processor_name()
    assert 1e8 < found.clock < 1e10


def test_threads(tmp_path: Path) -> None:
    device = _device(threads=3)
    _check(_results(_write(device, tmp_path / "batch")), device)


def test_it_goes_on_where_it_was_interrupted(batch: Path) -> None:
    first = _results(batch)
    lines = (batch / MEASURED).read_bytes().splitlines(keepends=True)
    (batch / MEASURED).write_bytes(b"".join(lines[:3]) + lines[3][:20])  # the last is cut off
    again = _results(batch)
    assert again.results[:3] == first.results[:3]
    assert len(again.results) == len(first.results)


def _program(body: str, folder: Path) -> Path:
    """A batch of one candidate, which is this function of C."""
    folder.mkdir()
    device = _device()
    np.save(folder / "x.npy", np.arange(64, dtype=np.float32))
    (folder / "own.c").write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n#include <signal.h>\n#include <string.h>\n"
        f"int candidate_own(const float* x, float* y) {{ {body} return 0; }}\n"
    )
    find_compiler(triple_of(target_and_machine(device.target)[0])).compile(folder, "own.c", "own.o")
    (folder / "own.c").unlink()
    (folder / "own.o").with_suffix(SCRATCH).write_text("0")
    made = Built(knobs="{}", library="own.o", arrays=("x.npy",))
    job = Job(op="own", problem="{}", candidates=(made,), expected="x.npy", turns=3)
    write_program([job], device, TOLD, folder)
    return folder


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("memcpy(y, x, 256);", None),
        ("memcpy(y, x, 252);", "wrong answer: off by nan of the largest value"),
        ("abort();", "the process that ran it was killed by signal 6"),
        ("memcpy(y, x, 256); exit(3);", "the process that ran it ended with exit code 3"),
        ("raise(SIGALRM);", "it took longer than 180 s"),
        ("return 1;", "the candidate failed"),
    ],
)
def test_what_became_of_a_candidate(body: str, error: str | None, tmp_path: Path) -> None:
    folder = _program(body, tmp_path / "batch")
    done = _measure(folder)
    assert (done.returncode, done.stderr) == (int(error is not None), "")  # all have failed, or none
    (result,) = read_results(folder / RESULTS).results
    assert result.error == error


@pytest.mark.parametrize("body", ["raise(SIGKILL);", "raise(SIGTERM);"])
def test_what_is_killed_from_outside_is_tried_again(body: str, tmp_path: Path) -> None:
    once = (
        'static const char flag[] = "killed"; FILE* f = fopen(flag, "r"); if (!f) {{ fopen(flag, "w"); {} }}'
    )
    folder = _program(once.format(body) + " memcpy(y, x, 256);", tmp_path / "batch")
    assert [result.error for result in _results(folder).results] == [None]
    (folder / MEASURED).unlink()
    always = _program(body, tmp_path / "always")
    assert _measure(always).returncode == 1
    (result,) = read_results(always / RESULTS).results
    assert str(result.error).startswith("the process that ran it was killed by signal ")


@pytest.mark.parametrize(
    "data",
    [None, lambda file: file[:-1], lambda file: file + b"0", lambda file: file[1:], lambda file: b""],
)
def test_files_that_are_missing_or_damaged(data: Callable[[bytes], bytes] | None, tmp_path: Path) -> None:
    """No candidate is blamed for them."""
    folder = _program("memcpy(y, x, 256);", tmp_path / "batch")
    file = (folder / "x.npy").read_bytes()
    (folder / "x.npy").unlink()
    if data is not None:
        (folder / "x.npy").write_bytes(data(file))
    done = _measure(folder)
    told = "x.npy is missing or damaged: copy the whole folder of the batch again\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)
    assert not (folder / MEASURED).exists()


def test_infinite_answers_are_compared(tmp_path: Path) -> None:
    folder = _program("memcpy(y, x, 256); y[3] = 7;", tmp_path / "batch")
    values = np.arange(64, dtype=np.float32)
    values[3] = np.inf
    np.save(folder / "x.npy", values)
    assert _measure(folder).returncode == 1
    (result,) = read_results(folder / RESULTS).results
    assert str(result.error).startswith("wrong answer: off by ")


def test_it_finds_its_files_when_called_by_path(tmp_path: Path) -> None:
    folder = _program("memcpy(y, x, 256);", tmp_path / "batch")
    command, environment = [PROGRAM], {"PATH": str(folder)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, executable=folder / PROGRAM, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (folder / RESULTS).exists()


def test_one_process_measures_at_a_time(tmp_path: Path) -> None:
    folder = _program("memcpy(y, x, 256);", tmp_path / "batch")
    with (folder / MEASURED).open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = _measure(folder)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "another process measures this batch\n")


@pytest.mark.parametrize("text", ["{{}}\n", "\n", "{line}{line}", "{line}{{}}\n", "other{line}", "\0\n"])
def test_what_is_no_result_is_told_of(text: str, tmp_path: Path) -> None:
    folder = _program("memcpy(y, x, 256);", tmp_path / "batch")
    _results(folder)
    (folder / MEASURED).write_text(text.format(line=(folder / MEASURED).read_text()))
    done = _measure(folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "measured.jsonl is damaged; without it, all is measured anew\n"


def test_a_device_is_no_place_for_results(tmp_path: Path) -> None:
    folder = _program("memcpy(y, x, 256);", tmp_path / "batch")
    (folder / MEASURED).symlink_to("/dev/zero")
    done = _measure(folder)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "measured.jsonl cannot be written\n")


def test_no_static_library_is_told_of_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_program, "find_program_compiler", lambda triple: CCompiler(("false",)))
    with pytest.raises(TargetError, match="the C compiler failed: false"):
        write_batch(groups_for(_device()), _device(), TOLD, tmp_path / "batch", program=True)
    assert not (tmp_path / "batch").exists()


def test_another_processor_is_told(tmp_path: Path) -> None:
    folder = _program("raise(SIGILL);", tmp_path / "batch")
    (folder / MEASURED).write_bytes(b'{"of": "another processor", "cut off')
    done = _measure(folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "this is not the processor that the batch is for: it lacks an instruction of the candidates\n"
    )
    assert not (folder / RESULTS).exists()
    assert (folder / MEASURED).read_bytes() == b""


def test_one_bad_instruction_does_not_undo_what_was_measured(tmp_path: Path) -> None:
    """Only where nothing has run yet, the processor is another one."""
    device, folder = _device(), _program("memcpy(y, x, 256);", tmp_path / "batch")
    compiler = find_compiler(triple_of(target_and_machine(device.target)[0]))
    both = tmp_path / "both"
    both.mkdir()
    shutil.copy(folder / "x.npy", both)
    jobs = []
    for name, body in (("good", "for (int i = 0; i < 64; i++) y[i] = x[i];"), ("bad", "raise(4);")):
        (both / f"{name}.c").write_text(
            f"#include <signal.h>\nint candidate_{name}(const float* x, float* y) {{ {body} return 0; }}\n"
        )
        compiler.compile(both, f"{name}.c", f"{name}.o")
        (both / f"{name}.c").unlink()
        (both / f"{name}{SCRATCH}").write_text("0")
        made = Built(knobs="{}", library=f"{name}.o", arrays=("x.npy",))
        jobs.append(Job(op=name, problem="{}", candidates=(made,), expected="x.npy", turns=3))
    write_program(jobs, device, TOLD, both)
    errors = [result.error for result in _results(both).results]
    assert errors == [None, "the process that ran it was killed by signal 4"]


def test_arguments_are_told_of(batch: Path) -> None:
    done = subprocess.run([batch / PROGRAM, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("beside the files of its batch\n")


def test_sanitized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's own code, under AddressSanitizer and UBSan."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")

    def link(self: CCompiler, folder: Path, objects: list[str], output: str) -> None:
        self._run(folder, "-o", output, *objects, "-lm", "-lpthread")

    command = ("gcc", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    monkeypatch.setattr(batch_program, "find_program_compiler", lambda triple: CCompiler(command))
    monkeypatch.setattr(CCompiler, "link_program", link)
    device = _device(threads=2)
    _check(_results(_write(device, tmp_path / "batch")), device)
