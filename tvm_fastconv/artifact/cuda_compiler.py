"""CUDA C++ becomes machine code of several architectures: by nvcc, or by NVRTC where only that is installed."""

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..errors import TargetError
from ..temporary import temporary_folder
from .machine_code import MAGIC, MachineCode, read_report
from .nvrtc import find_nvrtc

NVCC_OPTIONS = ("-O3", "-std=c++17", "-diag-suppress=177", "-Xptxas", "-v")


class CudaCompiler(Protocol):
    """What makes machine code of CUDA source."""

    def compile(self, source: str, arches: Sequence[int]) -> MachineCode:
        """Machine code of ``source`` for every compute capability of ``arches``, and PTX of the last."""


class Nvcc:
    """NVIDIA's compiler, a program."""

    def __init__(self, path: str) -> None:
        self.path = path

    def compile(self, source: str, arches: Sequence[int]) -> MachineCode:
        """Machine code of ``source`` for every compute capability of ``arches``, and PTX of the last.

        Raises
        ------
        TargetError
            The source is refused.
        """
        codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in arches]
        codes.append(f"-gencode=arch=compute_{arches[-1]},code=compute_{arches[-1]}")
        with temporary_folder() as folder:
            Path(folder, "kernels.cu").write_text(source)
            command = [self.path, "-fatbin", *NVCC_OPTIONS, *codes, "kernels.cu", "-o", "kernels.fatbin"]
            try:
                done = subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
                )
                made = Path(folder, "kernels.fatbin").read_bytes() if done.returncode == 0 else b""
            except OSError as error:
                raise TargetError(f"nvcc failed: {' '.join(command)}: {error.strerror}") from None
        if not made.startswith(MAGIC):
            said = done.stderr or done.stdout or f"it ended with {done.returncode} and wrote no machine code"
            raise TargetError(f"nvcc failed: {' '.join(command)}\n{said}")
        return MachineCode(made, read_report(done.stderr))


def find_nvcc() -> str | None:
    """The path of nvcc: ``$NVCC``, else of the PATH, of the Python packages, or of the toolkit's usual place.

    Raises
    ------
    TargetError
        ``$NVCC`` names none.
    """
    named = os.environ.get("NVCC")
    for place in [named] if named else ["nvcc", *_in_packages(), "/usr/local/cuda/bin/nvcc"]:
        if (found := shutil.which(place)) is not None:
            return os.path.abspath(found)
    if named:
        raise TargetError(f"no CUDA compiler found at {named} (NVCC): {_TO_INSTALL}")
    return None


_TO_INSTALL = (
    "pip install tvm-fastconv[cuda] for nvcc or tvm-fastconv[nvrtc] for NVRTC, or install NVIDIA's CUDA toolkit 13 "
    "and put nvcc into the PATH or its path into NVCC"
)


def _in_packages() -> list[str]:
    try:
        return [str(importlib.metadata.distribution("nvidia-cuda-nvcc").locate_file("nvidia/cu13/bin/nvcc"))]
    except importlib.metadata.PackageNotFoundError:
        return []


def find_cuda_compiler() -> CudaCompiler:
    """Nvcc where there is one, else NVRTC.

    Raises
    ------
    TargetError
        There is neither.
    """
    if (nvcc := find_nvcc()) is not None:
        return Nvcc(nvcc)
    nvrtc = find_nvrtc()
    if isinstance(nvrtc, str):
        raise TargetError(f"no CUDA compiler found (nvcc: none; NVRTC: {nvrtc}): {_TO_INSTALL}")
    return nvrtc


def compile_cuda(source: str, arches: Sequence[int]) -> MachineCode:
    """Machine code of CUDA C++ ``source`` for every compute capability of ``arches``, and PTX of the last.

    Raises
    ------
    TargetError
        No compiler is installed, or the source is refused.
    """
    return find_cuda_compiler().compile(source, arches)
