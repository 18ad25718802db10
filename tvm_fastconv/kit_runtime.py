"""TVM's runtime for a kit: two libraries of the target's wheels, and TVM FFI's headers."""

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import tvm_ffi.libinfo

from .artifact.elf import process_machine
from .artifact.manifest import Manifest
from .errors import ArtifactError
from .runtime.tvm_runtime import runtime_library
from .temporary import temporary_folder

LIBRARIES = {"apache-tvm": "tvm/lib/libtvm_runtime.so", "apache-tvm-ffi": "tvm_ffi/lib/libtvm_ffi.so"}
"""By the distribution that has them on PyPI: their places there."""

HEADERS = ("tvm/ffi", "dlpack")


def write_runtime(kit: Path, manifest: Manifest, machine: str, tell: Callable[[str], None]) -> None:
    """Write ``runtime/`` and ``include/`` into a kit for ``machine`` (as ``uname -m`` calls it).

    The libraries are this installation's where that is of the same kind, and else out of PyPI's wheels.

    Raises
    ------
    ArtifactError
        pip cannot get the wheels.
    """
    for name in HEADERS:
        for root in (tvm_ffi.libinfo.find_include_path(), tvm_ffi.libinfo.find_dlpack_include_path()):
            if (Path(root) / name).is_dir() and not (kit / "include" / name).exists():
                shutil.copytree(Path(root) / name, kit / "include" / name)
    (kit / "runtime").mkdir()
    if machine == process_machine():
        found = {"apache-tvm": runtime_library(), "apache-tvm-ffi": tvm_ffi.libinfo.find_libtvm_ffi()}
        for name, library in found.items():
            shutil.copy(library, kit / "runtime" / Path(LIBRARIES[name]).name)
            for file in importlib.metadata.files(name) or ():
                if _is_licence(str(file)):
                    shutil.copy(str(file.locate()), kit / "runtime" / f"{name}-{file.name}")
        return
    versions = {"apache-tvm": manifest.tvm_version, "apache-tvm-ffi": manifest.tvm_ffi_version}
    with temporary_folder() as work:
        for name, place in LIBRARIES.items():
            tell(f"fetching {name} for {machine}")
            wheel = _fetched_wheel(f"{name}=={versions[name]}", machine, work / name)
            try:
                _unpack(wheel, name, place, kit / "runtime")
            except (KeyError, zipfile.BadZipFile) as error:
                raise ArtifactError(f"{wheel.name} is no wheel of {name} with {place}: {error}") from None


def _unpack(wheel: Path, name: str, place: str, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (folder / Path(place).name).write_bytes(archive.read(place))
        for member in filter(_is_licence, archive.namelist()):
            (folder / f"{name}-{Path(member).name}").write_bytes(archive.read(member))


def _is_licence(name: str) -> bool:
    """Whether a file of a distribution is its licence or its notice."""
    return ".dist-info/" in name and Path(name).name.startswith(("LICENSE", "NOTICE"))


def _fetched_wheel(requirement: str, machine: str, folder: Path) -> Path:
    platforms = (f"--platform=manylinux_2_28_{machine}", f"--platform=manylinux2014_{machine}")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "download",
        "--no-deps",
    ]
    done = subprocess.run(
        [*command, "--only-binary=:all:", *platforms, "--dest", str(folder), requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl")) if done.returncode == 0 else []
    if not wheels:
        line = (done.stderr.strip() or "it brought no wheel").splitlines()[-1]
        raise ArtifactError(f"pip cannot get {requirement}, TVM's runtime for {machine}: {line}")
    return wheels[0]
