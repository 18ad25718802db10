"""Which C compiler is used: those that are there are told apart by their names alone."""

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tvm_fastconv.artifact import c_compiler
from tvm_fastconv.artifact.c_compiler import CCompiler, find_compiler, find_runtime_compiler
from tvm_fastconv.artifact.elf import process_machine
from tvm_fastconv.errors import TargetError

HERE = f"{process_machine()}-linux-gnu"
THERE = "aarch64-linux-gnu" if process_machine() == "x86_64" else "x86_64-linux-gnu"
ZIG = (sys.executable, "-m", "ziglang", "cc", "-target")


@pytest.fixture(autouse=True)
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No compiler at all."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    _with_zig(monkeypatch, False)


def _with_zig(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(c_compiler.importlib.util, "find_spec", lambda name: object() if there else None)


def _install(folder: Path, names: Iterable[str], machine: str = "") -> None:
    """Compilers that say which machine they are for, and do nothing."""
    for name in names:
        (folder / name).write_text(f"#!/bin/sh\necho {machine}\n")
        (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        (["cc", "gcc"], "cc"),
        (["gcc", "clang"], "gcc"),
        (["clang"], "clang"),
        ([f"{HERE}-gcc"], f"{HERE}-gcc"),
    ],
)
def test_for_this_machine(installed: list[str], found: str, tmp_path: Path) -> None:
    _install(tmp_path, installed)
    assert find_compiler(HERE) == CCompiler((found,))


def test_for_another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _install(tmp_path, ["cc"])
    with pytest.raises(
        TargetError, match=rf"no C compiler for {THERE} found: install {THERE}-gcc, or pip install"
    ):
        find_compiler(THERE)
    _with_zig(monkeypatch, True)
    assert find_compiler(THERE) == CCompiler((*ZIG, THERE))
    _install(tmp_path, [f"{THERE}-gcc"])
    assert find_compiler(THERE) == CCompiler((f"{THERE}-gcc",))


def test_musl_is_not_the_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _install(tmp_path, ["cc"])
    _with_zig(monkeypatch, True)
    assert find_compiler(MUSL) == CCompiler((*ZIG, MUSL))


MUSL = HERE.replace("gnu", "musl")


@pytest.mark.parametrize(
    ("says", "triple", "found"),
    [
        (HERE, HERE, "mine"),
        ("", HERE, "mine"),
        (THERE, HERE, "cc"),
        (MUSL, HERE, "cc"),
        (THERE, THERE, "mine"),
        (HERE, THERE, f"{THERE}-gcc"),
        ("", THERE, f"{THERE}-gcc"),
        (MUSL, MUSL, "mine"),
        (HERE, MUSL, f"{MUSL}-gcc"),
    ],
)
def test_the_environment_comes_first_where_it_fits(
    says: str, triple: str, found: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _install(tmp_path, ["cc", f"{THERE}-gcc", f"{MUSL}-gcc"])
    _install(tmp_path, ["mine"], says)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("CC", "mine -m64")
    assert find_compiler(triple).command[0] == found


def test_a_file_for_tvm_is_of_its_c_library(tmp_path: Path) -> None:
    _install(tmp_path, ["cc", "mine"])
    assert find_runtime_compiler(MUSL, "mine") == CCompiler(("cc",))
    assert find_runtime_compiler(HERE, "mine") == CCompiler(("mine",))


def test_what_is_named_is_used(tmp_path: Path) -> None:
    _install(tmp_path, ["cc", "mine"])
    assert find_compiler(HERE, "mine -O3") == CCompiler(("mine", "-O3"))
    with pytest.raises(TargetError, match=r"C compiler 'yours' for .* not found"):
        find_compiler(HERE, "yours")


@pytest.mark.parametrize(
    ("command", "archiver"),
    [
        (("cc",), ["ar"]),
        (("aarch64-linux-gnu-gcc",), ["aarch64-linux-gnu-ar"]),
        ((*ZIG, THERE), [*ZIG[:3], "ar"]),
        (("zig", "cc", "-target", THERE), ["zig", "ar"]),
        (("gcc", "-m64"), ["ar"]),
        (("ccache", "cc"), ["ar"]),
    ],
)
def test_archives_are_made_by_what_belongs_to_the_compiler(
    command: tuple[str, ...], archiver: list[str], tmp_path: Path
) -> None:
    _install(tmp_path, ["ar", "aarch64-linux-gnu-ar"])
    assert CCompiler(command)._archiver() == archiver


def test_what_is_named_and_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _install(tmp_path, ["cc"])
    with pytest.raises(TargetError, match=f"C compiler 'icc -O3' for {HERE} not found"):
        find_compiler(HERE, "icc -O3")
    with pytest.raises(TargetError, match="is no command: No closing quotation"):
        find_compiler(HERE, 'gcc "')
    monkeypatch.setenv("CC", "icc")
    with pytest.raises(TargetError, match=f"C compiler 'icc', as CC says, for {HERE} not found"):
        find_compiler(HERE)
    monkeypatch.setenv("CC", "")
    assert find_compiler(HERE) == CCompiler(("cc",))


def test_android_is_the_ndks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the system's compiler nor zig has its C library."""
    _install(tmp_path, ["cc"])
    _with_zig(monkeypatch, True)
    triple = f"{process_machine()}-linux-android"
    with pytest.raises(TargetError, match=f"name the NDK's, {triple}29-clang, with CC or --cc"):
        find_compiler(triple)


def test_a_compiler_that_writes_nothing_is_told(tmp_path: Path) -> None:
    _install(tmp_path, ["cc"])
    with pytest.raises(TargetError, match=r"the C compiler wrote nothing: .*cc -O2 .* -o a\.o"):
        CCompiler((str(tmp_path / "cc"),)).compile(tmp_path, "a.c", "a.o")
