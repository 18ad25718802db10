"""The C compiler that assembles and links compiled models."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm_ffi.libinfo

from ..errors import TargetError
from .elf import process_machine

_SYSTEM_COMPILERS = ("cc", "gcc", "clang")


@dataclass(frozen=True)
class CCompiler:
    """A C compiler command. It runs in the folder of its files with bare names, so that no path gets into them."""

    command: tuple[str, ...]

    def compile(self, folder: Path, source: str, output: str) -> None:
        """Compile one C file of ``folder`` to an object file there."""
        paths = {tvm_ffi.libinfo.find_include_path(), tvm_ffi.libinfo.find_dlpack_include_path()}
        includes = [f"-I{path}" for path in sorted(paths)]
        self._run(folder, "-O2", "-g0", "-fPIC", "-c", *includes, source, "-o", output)

    def link(self, folder: Path, objects: Sequence[str], output: str, options: Sequence[str]) -> None:
        """Link object files of ``folder``, and C files that ``options`` are for, to a shared library there."""
        self._run(folder, "-shared", "-fPIC", "-Wl,--strip-debug", *options, "-o", output, *objects, "-lm")

    def _run(self, folder: Path, *arguments: str) -> None:
        command = [*self.command, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TargetError(f"the C compiler failed: {shlex.join(command)}\n{done.stderr or done.stdout}")


def find_compiler(triple: str, cc: str | None = None) -> CCompiler:
    """Return the compiler for ``triple``.

    Parameters
    ----------
    triple
        The target's LLVM triple.
    cc
        A command to use instead, such as ``"python -m ziglang cc -target aarch64-linux-gnu"``. By default ``$CC`` or
        the system's compiler where the target is this machine, else ``<triple>-gcc``.

    Raises
    ------
    TargetError
        When no such command is installed.
    """
    native = triple.split("-")[0] == process_machine()
    if cc is None and native:
        cc = os.environ.get("CC") or next(filter(shutil.which, _SYSTEM_COMPILERS), None)
        if cc is None:
            raise TargetError(
                f"no C compiler found (looked for {', '.join(_SYSTEM_COMPILERS)}); install gcc or set CC"
            )
    command = shlex.split(f"{triple}-gcc" if cc is None else cc)
    if not command or shutil.which(command[0]) is None:
        raise TargetError(
            f"C compiler {shlex.join(command)!r} for {triple} not found; install it or give cc="
        )
    return CCompiler(tuple(command))
