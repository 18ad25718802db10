import json
import struct
import sys

import pytest

from tvm_fastconv.artifact.elf import process_machine, read_elf, read_section
from tvm_fastconv.errors import ArtifactError

SECTION_TABLE = slice(40, 48)  # e_shoff


def scan(path, data):
    path.write_bytes(data)
    with open(path, "rb") as file:
        return read_elf(file, "it")


def test_reads_machine_and_sections(chain):
    with open(chain.path, "rb") as file:
        elf = read_elf(file, "it")
        manifest = json.loads(read_section(file, elf.sections[".fastconv.manifest"], "it"))
    assert elf.machine == process_machine()
    assert manifest["verify"] == chain.manifest.verify
    assert {".text", ".dynsym", ".fastconv.weights"} <= set(elf.sections)
    assert elf.sections[".fastconv.weights"].offset % 4096 == 0


def test_cut_short_at_any_byte(chain, tmp_path):
    data = chain.path.read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(data)
    end = struct.unpack("<Q", data[SECTION_TABLE])[0] + 64 * struct.unpack("<H", data[60:62])[0]
    with open(path, "r+b") as file:
        for size in range(end - 1, -1, -1):
            file.truncate(size)
            with pytest.raises(ArtifactError):
                read_elf(file, "it")


@pytest.mark.parametrize("value", [0x00, 0x01, 0x7F, 0x80, 0xFF])
def test_damage_to_header_and_section_table_is_an_error_or_harmless(chain, tmp_path, value):
    data = bytearray(chain.path.read_bytes())
    table = struct.unpack("<Q", data[SECTION_TABLE])[0]
    path = tmp_path / "damaged"
    path.write_bytes(data)
    with open(path, "r+b", buffering=0) as file:
        for place in (*range(64), *range(table, len(data) - 24)):
            file.seek(place)
            file.write(bytes([value]))
            try:
                elf = read_elf(file, "it")
                for section in elf.sections.values():
                    read_section(file, section, "it")
            except ArtifactError:
                pass
            file.seek(place)
            file.write(data[place : place + 1])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no ELF file"),
        (b"#!/bin/sh\n", "no ELF file"),
        (b"\x7fELF", "it has 4 bytes and needs 20"),
        (b"\x7fELF\x03\x01" + bytes(100), "no little-endian shared library"),
        (b"\x7fELF\x02\x02" + bytes(100), "no little-endian shared library"),
        (b"\x7fELF\x02\x01" + bytes(10) + b"\x03" + bytes(100), "no readable section table"),
        (b"\x7fELF\x01\x01" + bytes(10) + b"\x03" + bytes(100), "no readable section table"),
        (b"\x7fELF\x01\x01" + bytes(10) + b"\x03\0\x28\0" + bytes(20), "it has 40 bytes and needs 52"),
    ],
)
def test_other_files(tmp_path, data, message):
    with pytest.raises(ArtifactError, match=message):
        scan(tmp_path / "other", data)


def test_process_machine_is_that_of_this_interpreter():
    assert process_machine() == {"x86_64": "x86_64", "aarch64": "aarch64"}[__import__("platform").machine()]
    assert sys.maxsize > 2**32


def test_files_of_32_bits(tmp_path):
    """Of one section beside the table of names: header, section table, names, content."""
    head = (
        b"\x7fELF\x01\x01\x01"
        + bytes(9)
        + struct.pack("<HHIIIIIHHHHHH", 3, 40, 1, 0, 0, 52, 0, 52, 0, 0, 40, 3, 2)
    )
    names, content = b"\0.text\0.names\0", b"code"
    at = 52 + 3 * 40
    rows = struct.pack("<10I", *[0] * 10)
    rows += struct.pack("<10I", 1, 1, 0, 0, at + len(names), len(content), 0, 0, 1, 0)
    rows += struct.pack("<10I", 7, 3, 0, 0, at, len(names), 0, 0, 1, 0)
    data = head + rows + names + content
    elf = scan(tmp_path / "arm", data)
    assert elf.machine == "armv7l"
    with open(tmp_path / "arm", "rb") as file:
        assert read_section(file, elf.sections[".text"], "it") == content
    for size in range(len(head) + len(rows) + len(names)):
        with pytest.raises(ArtifactError):
            scan(tmp_path / "cut", data[:size])
