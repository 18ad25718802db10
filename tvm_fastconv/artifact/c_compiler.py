"""The C compiler that assembles and links compiled models."""

import contextlib
import importlib.util
import itertools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm_ffi.libinfo

from ..architectures import ARCHITECTURES
from ..errors import TargetError
from .elf import process_machine

_SYSTEM_COMPILERS = ("cc", "gcc", "clang")


@dataclass(frozen=True)
class CCompiler:
    """A C compiler command. It runs in the folder of its files with bare names, so that no path gets into them."""

    command: tuple[str, ...]

    def compile(self, folder: Path, source: str, output: str, *options: str) -> None:
        """Compile one C file of ``folder``, or assemble one, to an object file there."""
        paths = {tvm_ffi.libinfo.find_include_path(), tvm_ffi.libinfo.find_dlpack_include_path()}
        includes = [f"-I{path}" for path in sorted(paths)]
        self._run(folder, "-O2", "-g0", "-fPIC", *options, "-c", *includes, source, "-o", output)

    def archive(self, folder: Path, objects: Sequence[str], output: str) -> None:
        """Put object files of ``folder`` into a static library there."""
        command = [*self._archiver(), "rcsD", output, *objects]
        _check(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False), command)

    def link(self, folder: Path, objects: Sequence[str], output: str, options: Sequence[str]) -> None:
        """Link object files of ``folder``, and C files that ``options`` are for, to a shared library there."""
        self._run(folder, "-shared", "-fPIC", "-Wl,--strip-debug", *options, "-o", output, *objects, "-lm")

    def link_program(self, folder: Path, objects: Sequence[str], output: str) -> None:
        """Link object files of ``folder`` to a program there that needs no library on the device."""
        self._run(folder, "-static", "-Wl,--strip-debug", "-o", output, *objects, "-lm", "-lpthread")

    def _archiver(self) -> list[str]:
        """The ``ar`` that belongs to the compiler: zig's own, that of a cross compiler's triple, or the system's."""
        for i, (before, word) in enumerate(itertools.pairwise(self.command)):
            if word == "cc" and "zig" in Path(before).name:  # zig cc, python -m ziglang cc
                return [*self.command[: i + 1], "ar"]
        beside = f"{self.command[0].removesuffix('gcc')}ar"
        return [beside if shutil.which(beside) else "ar"]

    def _run(self, folder: Path, *arguments: str) -> None:
        command = [*self.command, *arguments]
        # zig keeps what it compiles, weights and all, unless it is told to do so where everything is removed.
        own = os.environ | {"ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
        _check(
            subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False), command
        )
        if not (folder / arguments[arguments.index("-o") + 1]).exists():
            raise TargetError(f"the C compiler wrote nothing: {shlex.join(command)}")


def _check(done: subprocess.CompletedProcess[str], command: Sequence[str]) -> None:
    if done.returncode:
        raise TargetError(f"the C compiler failed: {shlex.join(command)}\n{done.stderr or done.stdout}")


def find_compiler(triple: str, cc: str | None = None) -> CCompiler:
    """Return the compiler for ``triple``.

    Parameters
    ----------
    triple
        The target's LLVM triple.
    cc
        A command to use instead, such as ``"python -m ziglang cc -target aarch64-linux-gnu"``. By default ``$CC`` if it
        compiles for the target, the system's compiler where the target is this machine, ``<triple>-gcc``, or zig's, of
        the Python package ``ziglang``.

    Raises
    ------
    TargetError
        When there is none, or what ``cc`` or ``$CC`` names is not there.
    """
    if cc is not None:
        return CCompiler(_command(cc, "", triple))
    own = _command(os.environ["CC"], ", as CC says,", triple) if os.environ.get("CC") else ()
    for found in _candidates(triple, own):
        if shutil.which(found[0]) is not None:
            return CCompiler(tuple(found))
    if "android" in triple:
        raise TargetError(
            f"no C compiler for {triple} found: name the NDK's, {triple}29-clang, with CC or --cc"
        )
    raise TargetError(
        f"no C compiler for {triple} found: install {toolchain_triple(triple)}-gcc, or pip install tvm-fastconv[cross] "
        "(zig), or name one with CC or --cc"
    )


def find_program_compiler(triple: str, cc: str | None = None) -> CCompiler:
    """Return what links static programs for ``triple``: ``cc``, else with musl where a compiler has it.

    Raises
    ------
    TargetError
        There is none.
    """
    if cc is None:
        with contextlib.suppress(TargetError):
            return find_compiler(triple.replace("-gnu", "-musl"))
    return find_compiler(triple, cc)


def find_runtime_compiler(triple: str, cc: str | None = None) -> CCompiler:
    """The compiler that links files for TVM's runtime, which is of GNU's C library whatever ``triple`` names."""
    if "musl" in triple:
        return find_compiler(triple.replace("musl", "gnu"))
    return find_compiler(triple, cc)


def _command(named: str, where: str, triple: str) -> tuple[str, ...]:
    """The words of a command that the user has named, and that is there."""
    try:
        command = tuple(shlex.split(named))
    except ValueError as error:
        raise TargetError(f"C compiler {named!r}{where} is no command: {error}") from None
    if not command or shutil.which(command[0]) is None:
        raise TargetError(f"C compiler {named!r}{where} for {triple} not found")
    return command


def _candidates(triple: str, own: Sequence[str]) -> Iterator[Sequence[str]]:
    """Commands that compile for ``triple``, if they are installed; the first is the one to use: ``own``, if it does."""
    if own and _compiles_for(own, triple):
        yield own
    if _is_native(triple):
        yield from ([name] for name in _SYSTEM_COMPILERS)
    yield [f"{toolchain_triple(triple)}-gcc"]
    # Android's C library is not zig's.
    if importlib.util.find_spec("ziglang") is not None and "android" not in triple:
        yield [sys.executable, "-m", "ziglang", "cc", "-target", toolchain_triple(triple)]


def toolchain_triple(triple: str) -> str:
    """Return ``triple`` as C compilers call it."""
    name, _, rest = triple.partition("-")
    row = ARCHITECTURES.get(name)
    return f"{row.toolchain or name}-{rest}" if row else triple


def _is_native(triple: str) -> bool:
    """Whether the system's compiler makes code for ``triple``; musl and Android are not the system's."""
    return triple.split("-")[0] == process_machine() and "musl" not in triple and "android" not in triple


def _compiles_for(command: Sequence[str], triple: str) -> bool:
    """Whether a compiler says that it compiles for the architecture and the C library of ``triple``."""
    try:
        done = subprocess.run([*command, "-dumpmachine"], capture_output=True, text=True, check=False)
    except OSError:
        return False
    said = done.stdout.strip()
    if not said:  # some say nothing: they are the user's for this machine
        return _is_native(triple)
    same = said.split("-")[0] in (triple.split("-")[0], toolchain_triple(triple).split("-")[0])
    return same and ("musl" in said) == ("musl" in triple)
