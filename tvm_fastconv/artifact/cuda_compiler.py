"""NVIDIA's compiler: CUDA C++ becomes machine code of several architectures, and what each kernel takes is read off."""

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import TargetError
from ..temporary import temporary_folder
from .kernel_resources import KernelResources, read_report

MAGIC = b"\x50\xed\x55\xba"
"""What a fat binary begins with."""

NVCC_OPTIONS = ("-O3", "-std=c++17", "-diag-suppress=177")


@dataclass(frozen=True)
class MachineCode:
    """Compiled CUDA source.

    Parameters
    ----------
    fatbin : bytes
        Machine code of every architecture asked for and PTX of the last, which a driver picks from.
    kernels : tuple of KernelResources
        Every kernel on every architecture.
    """

    fatbin: bytes
    kernels: tuple[KernelResources, ...]


def find_nvcc() -> str:
    """NVIDIA's compiler: ``$NVCC``, else that of the PATH, of the Python packages, or of the toolkit's usual place.

    Raises
    ------
    TargetError
        There is none.
    """
    named = os.environ.get("NVCC")
    for place in [named] if named else ["nvcc", *_in_packages(), "/usr/local/cuda/bin/nvcc"]:
        if (found := shutil.which(place)) is not None:
            return os.path.abspath(found)
    raise TargetError(
        f"no CUDA compiler found{f' at {named} (NVCC)' if named else ''}: pip install tvm-fastconv[cuda], or install "
        "NVIDIA's CUDA toolkit 13 and put nvcc into the PATH or its path into NVCC"
    )


def _in_packages() -> list[str]:
    try:
        return [str(importlib.metadata.distribution("nvidia-cuda-nvcc").locate_file("nvidia/cu13/bin/nvcc"))]
    except importlib.metadata.PackageNotFoundError:
        return []


def compile_cuda(source: str, arches: Sequence[int]) -> MachineCode:
    """Machine code of CUDA C++ ``source`` for every compute capability of ``arches``, and PTX of the last.

    Raises
    ------
    TargetError
        nvcc is not installed, or refuses the source.
    """
    nvcc = find_nvcc()
    codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in arches]
    codes.append(f"-gencode=arch=compute_{arches[-1]},code=compute_{arches[-1]}")
    with temporary_folder() as folder:
        Path(folder, "kernels.cu").write_text(source)
        command = [
            nvcc,
            "-fatbin",
            *NVCC_OPTIONS,
            "-Xptxas",
            "-v",
            *codes,
            "kernels.cu",
            "-o",
            "kernels.fatbin",
        ]
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
