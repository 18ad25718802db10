"""NVIDIA's ``cuobjdump``: what lies in a fat binary, and its instructions."""

import importlib.metadata
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = "nvidia-cuda-cuobjdump"


def find_cuobjdump() -> str | None:
    """The program, of the PATH, of the Python packages, or of the toolkit's usual place."""
    places = ["cuobjdump", "/usr/local/cuda/bin/cuobjdump"]
    try:
        packaged = importlib.metadata.distribution(_PACKAGE).locate_file("nvidia/cu13/bin/cuobjdump")
        places.insert(1, str(packaged))
    except importlib.metadata.PackageNotFoundError:
        pass
    return next((found for place in places if (found := shutil.which(place)) is not None), None)


def run_cuobjdump(fatbin: bytes, *options: str) -> str:
    """What it says of ``fatbin``."""
    program = find_cuobjdump()
    if program is None:
        raise FileNotFoundError(f"cuobjdump is not installed: pip install {_PACKAGE} nvidia-cuda-nvdisasm")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernels.fatbin")
        path.write_bytes(fatbin)
        command = [program, *options, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def contents(fatbin: bytes) -> tuple[list[str], list[str]]:
    """Architectures of the machine code in ``fatbin``, and of its PTX: ``sm_90``."""
    listed = run_cuobjdump(fatbin, "-lelf", "-lptx")
    return re.findall(r"\.(sm_\w+)\.cubin", listed), re.findall(r"\.(sm_\w+)\.ptx", listed)


def disassembled(fatbin: bytes) -> Iterator[tuple[int, str, list[str]]]:
    """Compute capability, kernel and instructions, with their addresses, of all machine code in ``fatbin``."""
    for part in run_cuobjdump(fatbin, "-sass").split("code for sm_")[1:]:
        arch = int(re.match(r"\d+", part)[0])  # type: ignore[index]
        for function in part.split("Function : ")[1:]:
            lines = function.splitlines()
            yield (
                arch,
                lines[0].strip(),
                [line.strip() for line in lines if re.match(r"\s+/\*[0-9a-f]{4,5}\*/", line)],
            )
