"""Machine code of several GPU architectures inside a compiled file, made without a GPU.

TVM compiles CUDA source where it finds a GPU, and elsewhere leaves it to the machine that loads the file. Its saved
form of a module, ``[format][functions][code]``, is the same for both: here the source in it is replaced by a fat binary
of NVIDIA's compiler, which the driver of the loading machine picks from.
"""

import contextlib
import os
import shutil
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx

from ..errors import ArtifactError, TargetError
from ..gpu_targets import arches_of, names_cuda
from ..runtime.tvm_runtime import Library
from ..targets import triple_of
from ..temporary import temporary_folder
from .binary_stream import StreamReader, text
from .c_compiler import find_compiler
from .cuda_compiler import compile_cuda
from .machine_code import KernelResources

KEEP_SOURCE = "TVM_COMPILE_FORCE_FALLBACK"
"""Environment variable of TVM's."""

_environment = threading.Lock()

_SECTION = r"""
#ifdef __x86_64__
#define SECTION ".lrodata,\"al\"" /* which may lie further away than code reaches */
#else
#define SECTION ".rodata,\"a\""
#endif
__asm__(".section " SECTION ",%progbits\n.balign 64\n.globl @symbol@\n"
        "@symbol@:\n.incbin \"devices.bin\"\n.text\n");
"""


@contextlib.contextmanager
def source_kept() -> Iterator[None]:
    """Have TVM keep CUDA source as it is, where there is a GPU too: it would compile with fast, inexact functions."""
    with _environment:
        before = os.environ.get(KEEP_SOURCE)
        os.environ[KEEP_SOURCE] = "1"
        try:
            yield
        finally:
            os.environ.pop(KEEP_SOURCE)
            if before is not None:
                os.environ[KEEP_SOURCE] = before


def _with_source(func: tirx.PrimFunc, target: tvm.target.Target) -> tvm.runtime.Executable:
    module = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
    with source_kept():
        return tvm.compile(module, target=target)


def cuda_source(func: tirx.PrimFunc, target: tvm.target.Target) -> str:
    """CUDA C++ of a scheduled function's kernels."""
    return str(_with_source(func, target).mod.imports[0].inspect_source())


def loaded_on_gpu(func: tirx.PrimFunc, target: tvm.target.Target) -> Callable[..., None]:
    """Machine code of a scheduled function, ready to be called with tensors of the GPU."""
    with temporary_folder() as folder:
        path = Path(folder, "main.so")
        link_on_gpu(func, target, path)
        code: Callable[..., None] = Library(str(path)).function("main")
        return code


def link_on_gpu(func: tirx.PrimFunc, target: tvm.target.Target, path: Path) -> tuple[KernelResources, ...]:
    """Write machine code of a scheduled function to the shared library ``path``, whose function is ``main``.

    Returns
    -------
    tuple of KernelResources
        What its kernels take.

    Raises
    ------
    TargetError
        There is no C compiler for the host of ``target``.
    """
    compiler, kernels = find_compiler(triple_of(target)), list[KernelResources]()
    executable = _with_source(func, target)
    with temporary_folder() as folder:

        def link(_output: str, objects: list[str], options: Sequence[str] = ()) -> None:
            compiler.link(Path(folder), [Path(name).name for name in objects], path.name, options)

        executable.mod.export_library(
            str(Path(folder, path.name)),
            fcompile=link,
            fpack_imports=pack_imports(arches_of(target), note=kernels.extend),
            workspace_dir=str(folder),
        )
        shutil.move(Path(folder, path.name), path)
    return tuple(kernels)


def kept_source(
    folder: str | os.PathLike[str], target: str | Path | tvm.target.Target | Mapping[str, Any]
) -> Path:
    """Make the folder that the CUDA source of what is compiled for ``target`` is to be kept in.

    Raises
    ------
    ArtifactError
        It cannot be made.
    TargetError
        For ``target`` there will be no CUDA source.
    """
    if isinstance(target, Path) or not names_cuda(target):
        raise TargetError(f"there is no CUDA source to keep in {folder}: the target is no GPU, but {target}")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot keep CUDA source in {folder}: {error.strerror}") from None
    return Path(folder)


def pack_imports(
    arches: Sequence[int],
    keep: Path | None = None,
    note: Callable[[Sequence[KernelResources]], None] = lambda kernels: None,
) -> Callable[..., str]:
    """What ``export_library`` is to pack device modules by: as machine code for ``arches``.

    Parameters
    ----------
    keep : Path, optional
        A folder that the CUDA source is written to as well.
    note : callable, optional
        Called with what the kernels take.
    """

    def compiled(source: str) -> bytes:
        if keep is not None:
            Path(keep, "kernels.cu").write_text(source)
        made = compile_cuda(source, arches)
        note(made.kernels)
        return made.fatbin

    def pack(module: Any, is_system_lib: bool, prefix: str, workspace: str) -> str:
        packed = tvm.get_global_func("runtime.ModulePackImportsToTensor")(module)
        Path(workspace, "devices.bin").write_bytes(with_machine_code(packed.numpy().tobytes(), compiled))
        symbol = f"{prefix}__tvm_ffi__library_bin"
        path = Path(workspace, "devices.c")
        path.write_text(_SECTION.replace("@symbol@", symbol))
        return str(path)

    return pack


def with_machine_code(packed: bytes, compiled: Callable[[str], bytes]) -> bytes:
    """The packed modules with machine code in place of every CUDA source."""
    reader = StreamReader(packed)
    reader.take(8)  # the size of all that follows
    for _ in range(2):  # where each module's imports begin, and the imports
        reader.take(8 * reader.number())
    parts = [packed[8 : reader.at]]
    while reader.at < len(packed):
        kind = reader.text()
        parts.append(text(kind))
        if kind == b"_lib":  # the library that holds all this
            continue
        body = reader.text()
        parts.append(text(_compiled_module(body, compiled) if kind == b"cuda" else body))
    content = b"".join(parts)
    return struct.pack("<Q", len(content)) + content


def _compiled_module(body: bytes, compiled: Callable[[str], bytes]) -> bytes:
    """A saved CUDA module, ``[format][functions][code]``, with its source compiled."""
    reader = StreamReader(body)
    if reader.text() != b"cuda":
        return body
    start = reader.at
    for _ in range(reader.number()):
        reader.text()  # the key, and the name again
        reader.text()
        reader.take(4 * reader.number())  # types of arguments
        for _ in range(reader.number()):  # what a launch says: blocks, threads, shared memory
            reader.text()
        reader.take(4 * reader.number())
    functions = body[start : reader.at]
    return text(b"cubin") + functions + text(compiled(reader.text().decode()))
