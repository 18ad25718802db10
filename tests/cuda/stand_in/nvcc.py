"""A stand-in for ``nvcc -fatbin``: a library for ``runtime.cc`` in a fat binary's header."""

import re
import struct
import sys
import tempfile
from pathlib import Path

from ..kernel_library import EmulationError, build_library

HEADER = struct.Struct("<IHHQ")
"""Magic number, version, size of the header, size of what follows."""

KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^()]*\)\s+)?(\w+)\s*\(")


def fatbin(source: str, folder: Path) -> bytes:
    """CUDA source as what the stand-in for the driver loads."""
    names = tuple(dict.fromkeys(KERNEL.findall(source)))
    library = build_library(source, names, folder).read_bytes()
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


if __name__ == "__main__":
    main(sys.argv[1:])
