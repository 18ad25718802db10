"""The file of a compiled model: one shared library with weights, manifest and a seal; reading, checking, copying it.

Layout::

    ELF image      code, tables of TVM's virtual machine
      .fastconv.weights     mapped, page-aligned: every weight at a multiple of 64 bytes
      .fastconv.manifest    not mapped: JSON padded with spaces
      .fastconv.reference   not mapped, optional: inputs and the outputs expected for them
    seal           24 bytes behind the image, which the dynamic linker ignores: magic, format version, CRC-32, size

The checksum guards against damage, not against attackers: CRC-32 finds every damaged byte and every burst of up to 32
bits, and any other damage but once in 4e9. It runs at 3.3 GB/s here, against 0.9 for BLAKE2b and 1.6 for SHA-256, and
it is the load time of a file: 0.07 s for AlexNet's 240 MB. Being last, the seal also reveals a file cut short.
"""

import os
import struct
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import ArtifactError
from ..regular_files import open_regular
from ..temporary import temporary_folder
from .elf import Elf, is_elf, read_elf, read_section
from .manifest import FORMAT_VERSION, Manifest

WEIGHTS_SECTION = ".fastconv.weights"
MANIFEST_SECTION = ".fastconv.manifest"
REFERENCE_SECTION = ".fastconv.reference"

_SEAL = struct.Struct("<8sIIQ")
_MAGIC = b"FASTCONV"
SEAL_SIZE = _SEAL.size
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """A file that passed every check that needs no execution, held open while this lives: readable once unlinked."""

    path: str
    file: BinaryIO
    elf: Elf
    manifest: Manifest

    def read_reference(self) -> bytes:
        """Return the bytes of the bundled reference tensors, empty where there are none."""
        section = self.elf.sections.get(REFERENCE_SECTION)
        return b"" if section is None else read_section(self.file, section, self.path)

    def read_all(self) -> Iterator[bytes]:
        """Yield the bytes of the file, piece by piece."""
        for offset in range(0, self.manifest.file_size, _CHUNK):
            yield os.pread(self.file.fileno(), _CHUNK, offset)

    def is_at_its_path(self) -> bool:
        """Whether the file is still there under its name, and no other in its place."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.file.fileno()))
        except OSError:
            return False

    def copy_to(self, path: str | os.PathLike[str]) -> None:
        """Write the file to ``path``: to a temporary name first, then renamed."""
        with replacing(path) as temporary, open(temporary, "wb") as target:
            target.writelines(self.read_all())


def abi_name(machine: str, tvm_version: str, tvm_ffi_version: str) -> str:
    """Return what a process must have to run a file: ``"x86_64 tvm-0.27 ffi-0.1"``."""
    tvm, ffi = (".".join(version.split(".")[:2]) for version in (tvm_version, tvm_ffi_version))
    return f"{machine} tvm-{tvm} ffi-{ffi}"


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Open a compiled model and check seal, checksum, sections and manifest; nothing of it is executed.

    Raises
    ------
    ArtifactError
        When the file is missing, not a compiled model, damaged, cut short or of a newer format.
    """
    path = os.path.abspath(os.fsdecode(path))
    try:
        file = open_regular(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot open {path}: {reason(error)}") from None
    try:
        artifact = _read(file, path)
    except OSError as error:
        file.close()
        raise ArtifactError(f"cannot read {path}: {reason(error)}") from None
    except BaseException:
        file.close()
        raise
    weakref.finalize(artifact, file.close)
    return artifact


def seal(path: str | os.PathLike[str]) -> None:
    """Append the seal to a linked shared library."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END) + SEAL_SIZE
        file.write(_SEAL.pack(_MAGIC, FORMAT_VERSION, _checksum(file, size), size))


def amend_manifest(path: str | os.PathLike[str], **changes: Any) -> Manifest:
    """Change fields of a file's manifest in place, in the room that ``pad_manifest`` left, and seal the file anew.

    The manifest is not mapped, so this is safe while the file is loaded as code; verification records its result so.

    Raises
    ------
    ValueError
        When the new manifest does not fit, or a field is unknown or wrong.
    """
    artifact = read_artifact(path)
    section = artifact.elf.sections[MANIFEST_SECTION]
    text = replace(artifact.manifest, **changes).to_section()
    if len(text) > section.size:
        raise ValueError(f"{artifact.path}: the manifest grew to {len(text)} of {section.size} bytes")
    with open(path, "r+b") as file:
        file.seek(section.offset)
        file.write(text.ljust(section.size))
        file.seek(-SEAL_SIZE, os.SEEK_END)
        file.truncate()
    seal(path)
    return read_artifact(path).manifest


def pad_manifest(manifest: Manifest) -> bytes:
    """Return the manifest section's bytes with room for a verify line and one error per layer to be added."""
    text = manifest.to_section()
    return text.ljust(len(text) + 4096 + 32 * len(manifest.layers))


def check_output_path(path: str | os.PathLike[str]) -> None:
    """Raise ``ArtifactError`` where ``path`` cannot be written; call it before long work. Leaves nothing behind."""
    path = Path(os.fsdecode(path))
    try:
        with suppress(FileNotFoundError):
            path.lstat()  # refuses names that no file can have, which the rest would take for absent ones
        if path.is_dir():
            raise ArtifactError(f"{path} is a folder; give the name of a file in it")
        if path.exists() and not path.is_file():
            raise ArtifactError(f"{path} is no regular file and is not replaced")
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot write {path}: {reason(error)}") from None


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name in a fresh folder beside ``path``; what was written there becomes ``path`` at the end."""
    path = Path(os.fsdecode(path))
    check_output_path(path)
    try:
        with temporary_folder(path.absolute().parent) as folder:
            temporary = folder / path.name
            yield temporary
            os.replace(temporary, path)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {reason(error)}") from error


def reason(error: OSError | ValueError) -> str:
    """Return why the system or Python refuses a file; a ``ValueError`` is about its name."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _read(file: BinaryIO, path: str) -> Artifact:
    size = os.fstat(file.fileno()).st_size
    if not is_elf(file):
        raise ArtifactError(f"{path} is not a compiled model: it is no ELF file")
    if (checksum := _read_seal(file, path, size)) is None:
        if MANIFEST_SECTION in read_elf(file, path).sections:
            raise ArtifactError(f"{path} is cut short or was altered: the seal at its end is missing")
        raise ArtifactError(f"{path} is a shared library, but not a model compiled by tvm-fastconv")
    if _checksum(file, size) != checksum:
        raise ArtifactError(f"{path} is damaged: its checksum differs from the one it was sealed with")
    elf = read_elf(file, path)
    if MANIFEST_SECTION not in elf.sections:
        raise ArtifactError(f"{path} is sealed but has no manifest")
    section = read_section(file, elf.sections[MANIFEST_SECTION], path)
    try:
        manifest = Manifest.from_section(section, file_size=size, checksum=f"crc32:{checksum:08x}")
        _check_against_sections(manifest, elf)
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}") from None
    return Artifact(path, file, elf, manifest)


def _check_against_sections(manifest: Manifest, elf: Elf) -> None:
    """Refuse a manifest of another format version, or with tensors that reach past the end of their section."""
    if manifest.format_version != FORMAT_VERSION:
        raise ValueError(f"the seal says format {FORMAT_VERSION}, the manifest {manifest.format_version}")
    pair = manifest.reference
    reference = (*pair.inputs, *pair.outputs) if pair else ()
    for name, tensors in ((WEIGHTS_SECTION, manifest.weights), (REFERENCE_SECTION, reference)):
        size = elf.sections[name].size if name in elf.sections else 0
        end = max((tensor.offset + tensor.nbytes for tensor in tensors), default=0)
        if end > size:
            raise ValueError(f"a tensor of the manifest ends at byte {end} of {name}, which has {size}")


def _read_seal(file: BinaryIO, path: str, size: int) -> int | None:
    """Return the sealed checksum, ``None`` where there is no seal."""
    if size < SEAL_SIZE:
        return None
    found = os.pread(file.fileno(), SEAL_SIZE, size - SEAL_SIZE)
    magic, version, checksum, sealed_size = _SEAL.unpack(found)
    if magic != _MAGIC:
        return None
    if version > FORMAT_VERSION:
        raise ArtifactError(
            f"{path} was compiled by a newer tvm-fastconv: format {version}, this one reads {FORMAT_VERSION}"
        )
    if 0 < version < FORMAT_VERSION:
        raise ArtifactError(
            f"{path} was compiled by an older tvm-fastconv: format {version}, this one reads {FORMAT_VERSION}; "
            "compile it again"
        )
    if version != FORMAT_VERSION or sealed_size != size:
        raise ArtifactError(f"{path} is damaged: its seal is that of another file")
    return int(checksum)


def _checksum(file: BinaryIO, size: int) -> int:
    """Return the CRC-32 of a file of ``size`` bytes without its seal, read in pieces so that memory stays small."""
    buffer = memoryview(bytearray(_CHUNK))
    checksum, offset, end = 0, 0, size - SEAL_SIZE
    while offset < end:
        count = os.preadv(file.fileno(), [buffer[: min(_CHUNK, end - offset)]], offset)
        if not count:
            break
        checksum = zlib.crc32(buffer[:count], checksum)
        offset += count
    return checksum
