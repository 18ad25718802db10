"""A GPU that this machine does not need to have: CUDA's libraries and compiler, with kernels that the CPU emulates.

What is run in its environment loads files, launches, captures graphs and times as on a GPU, through TVM's own CUDA
runtime. What it cannot show: speed, PyTorch's tensors on a GPU, and work that overlaps.
"""

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

SPILLED, BREAKS_THE_GPU = "FASTCONV_SPILLED", "FASTCONV_BREAKS_THE_GPU"
"""Variables for tests: bytes that every kernel spills; the name of a file that the next launch takes away, and with it
the GPU of its process."""

STAND_IN = "FASTCONV_STAND_IN_GPU"

VERSION = "libcudart.so.13 { global: cu*; local: *; };\n"


@functools.cache
def environment() -> dict[str, str]:
    """Variables of a process that finds the stand-in, on top of this one's."""
    folder = Path(_folder().name)
    Path(folder, "version").write_text(VERSION)
    _run(
        "g++", "-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", str(HERE / "runtime.cc"),
        "-Wl,-soname,libcudart.so.13", f"-Wl,--version-script={folder / 'version'}", "-ldl",
        "-o", str(folder / "libcudart.so.13"),
    )  # fmt: skip
    # The driver's functions are in the same library, which is found through this one.
    Path(folder, "empty.c").touch()
    _run(
        "gcc", "-shared", str(folder / "empty.c"), "-Wl,-soname,libcuda.so.1", "-Wl,--no-as-needed",
        str(folder / "libcudart.so.13"), "-o", str(folder / "libcuda.so.1"),
    )  # fmt: skip
    nvcc = folder / "nvcc"
    nvcc.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m {__spec__.parent}.nvcc "$@"\n')
    nvcc.chmod(0o755)
    paths = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {"LD_LIBRARY_PATH": os.pathsep.join(paths), "NVCC": str(nvcc), STAND_IN: "1"}


def is_stand_in() -> bool:
    """Whether the GPU of this process is none."""
    return STAND_IN in os.environ


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="stand-in-gpu-")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
