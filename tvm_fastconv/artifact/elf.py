"""Read the section table of a little-endian ELF file without loading the file as code.

Any file is safe to hand over: what is cut short, damaged or not ELF at all ends in ``ArtifactError``.
"""

import os
import struct
import sys
from dataclasses import dataclass
from typing import BinaryIO

from ..architectures import ARCHITECTURES
from ..errors import ArtifactError

_IDENTITY = struct.Struct("<4sBB10xHH")
_CLASSES = {
    1: (struct.Struct("<20x4x8xI4x6xHHH"), struct.Struct("<IIIIII16x")),
    2: (struct.Struct("<20x4x16xQ4x6xHHH"), struct.Struct("<IIQQQQ24x")),
}
"""Of 32 and 64 bits: the header, and an entry of the section table."""
_LITTLE_ENDIAN, _SHARED_OBJECT, _NO_BITS = 1, 3, 8

MACHINES = {3: "i386", 243: "riscv64"} | {row.elf_machine: row.name for row in ARCHITECTURES.values()}
"""``e_machine`` → name; some that we do not compile for have one too, for errors."""


@dataclass(frozen=True)
class Section:
    """Where a section's bytes lie in the file."""

    offset: int
    size: int


@dataclass(frozen=True)
class Elf:
    """An ELF file's machine (``x86_64``, ``aarch64``, ... or its number) and its sections by name."""

    machine: str
    sections: dict[str, Section]


def is_elf(file: BinaryIO) -> bool:
    """Return whether the file starts like an ELF file."""
    return os.pread(file.fileno(), 4, 0) == b"\x7fELF"


def read_elf(file: BinaryIO, name: str) -> Elf:
    """Return the machine and the sections of a shared library.

    Parameters
    ----------
    file
        An open file; its position is neither used nor moved.
    name
        What to call it in errors.

    Raises
    ------
    ArtifactError
        When the file is no little-endian shared library, or is cut short or damaged.
    """
    if not is_elf(file):
        raise ArtifactError(f"{name} is not a compiled model: it is no ELF file")
    _, bits, order, kind, machine = _IDENTITY.unpack(_read(file, 0, _IDENTITY.size, name))
    if bits not in _CLASSES or (order, kind) != (_LITTLE_ENDIAN, _SHARED_OBJECT):
        raise ArtifactError(f"{name} is not a compiled model: it is no little-endian shared library")
    header, section = _CLASSES[bits]
    table, entry, count, names_index = header.unpack(_read(file, 0, header.size, name))
    if entry != section.size or names_index >= count:
        raise ArtifactError(f"{name} has no readable section table: it is damaged, or not a compiled model")
    rows = list(section.iter_unpack(_read(file, table, count * entry, name)))
    names = _read(file, rows[names_index][4], rows[names_index][5], name)
    # Backwards, so that of two sections with one name the first wins.
    sections = {
        _text(names, row[0]): Section(row[4], row[5]) for row in reversed(rows) if row[1] not in (0, _NO_BITS)
    }
    return Elf(MACHINES.get(machine, f"ELF machine {machine}"), sections)


def read_section(file: BinaryIO, section: Section, name: str) -> bytes:
    """Return a section's bytes; ``ArtifactError`` where the file is too short for them."""
    return _read(file, section.offset, section.size, name)


def process_machine() -> str:
    """Return the machine this process runs code for: that of its executable, in the names of ``MACHINES``."""
    exe = "/proc/self/exe" if os.path.exists("/proc/self/exe") else sys.executable
    with open(exe, "rb") as file:
        machine = struct.unpack("<18xH", file.read(20))[0]
    return MACHINES.get(machine, f"ELF machine {machine}")


def _read(file: BinaryIO, offset: int, size: int, name: str) -> bytes:
    # A damaged size may be huge: compare it with the file before asking for memory.
    if offset + size > (length := os.fstat(file.fileno()).st_size):
        raise ArtifactError(
            f"{name} is cut short or damaged: it has {length} bytes and needs {offset + size}"
        )
    data = os.pread(file.fileno(), size, offset)
    if len(data) != size:
        raise ArtifactError(f"{name} changed while it was read")
    return data


def _text(names: bytes, start: int) -> str:
    return names[start : names.find(b"\0", start)].decode("ascii", "replace")
