"""A stand-in for ``nvcc -fatbin``: a library for ``runtime.cc`` in a fat binary's header."""

import os
import re
import struct
import sys
import tempfile
from pathlib import Path

from ..kernel_library import EmulationError, build_library
from . import SPILLED

HEADER = struct.Struct("<IHHQ")
"""Magic number, version, size of the header, size of what follows."""

KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^()]*\)\s+)?(\w+)\s*\(")


REPORT = """ptxas info    : Compiling entry function '{name}' for 'sm_90'
ptxas info    : Function properties for {name}
    0 bytes stack frame, {spilled} bytes spill stores, {spilled} bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers
"""
"""What is said of each kernel."""


def names_of(source: str) -> tuple[str, ...]:
    """The kernels of CUDA source."""
    return tuple(dict.fromkeys(KERNEL.findall(source)))


def fatbin(source: str, folder: Path) -> bytes:
    """CUDA source as what the stand-in for the driver loads."""
    library = build_library(source, names_of(source), folder).read_bytes()
    return HEADER.pack(0xBA55ED50, 1, HEADER.size, len(library)) + library


def main(arguments: list[str]) -> None:
    """Compile the one file that ends in ``.cu`` to what ``-o`` names."""
    (source,) = (Path(word) for word in arguments if word.endswith(".cu"))
    output = Path(arguments[arguments.index("-o") + 1])
    with tempfile.TemporaryDirectory() as folder:
        try:
            output.write_bytes(fatbin(source.read_text(), Path(folder)))
        except EmulationError as error:
            sys.exit(str(error))
    for name in names_of(source.read_text()):
        print(REPORT.format(name=name, spilled=os.environ.get(SPILLED, "0")), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
