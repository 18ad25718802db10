"""A network as a C library: ``NAME.h``, ``libNAME.a``, ``libNAME.so``, and ``NAME.weights`` where they lie apart.

The same kernels as in a file for TVM's runtime, called by the same entry, without anything of TVM. The pointers by
which they call a runtime are renamed, so that several libraries fit into one program.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import tvm

from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.module.plan_weights import WEIGHTS_ATTR
from tvm_fastconv.relay_passes.module.straight_line import StraightLine

from .. import __version__
from ..errors import ArtifactError, InputError, ModelError
from ..report import ALIGNMENT
from ..targets import spec_of, triple_of
from ..temporary import temporary_folder
from .artifact import reason
from .build import specs_of, write_tensors
from .c_compiler import find_compiler
from .c_names import why_no_library_name
from .c_source import CSource, backend_prefix
from .kernels import compile_kernels, entry_of

_BACKEND = b"__TVMBackend"
"""What the names of the runtime's pointers begin with."""


def check_library_name(name: str) -> str:
    """Return ``name``.

    Raises
    ------
    InputError
        A C library cannot be called so.
    """
    if why := why_no_library_name(name):
        raise InputError(f"a C library cannot be named {name[:80]!r}: {why}")
    return name


def check_output_folder(folder: str | os.PathLike[str]) -> Path:
    """Return ``folder``, in which files can be written; call it before long work. Leaves nothing behind.

    Raises
    ------
    ArtifactError
        It is none, or cannot be made.
    """
    if not os.fspath(folder):
        raise ArtifactError("the output folder has no name")
    place = Path(os.fsdecode(folder))
    try:
        with contextlib.suppress(FileNotFoundError):
            place.lstat()  # refuses names that no file can have, which the rest would take for absent ones
        there = next(each for each in (place.absolute(), *place.absolute().parents) if os.path.lexists(each))
        with tempfile.TemporaryFile(dir=there):
            pass
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot write to a folder {place}: {reason(error)}") from None
    return place


def build_c_library(
    mod: tvm.IRModule,
    target: tvm.target.Target,
    folder: str | os.PathLike[str],
    name: str,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    separate_weights: bool = False,
    cc: str | None = None,
    check: Callable[[Path], None] = lambda folder: None,
) -> list[Path]:
    """Compile a scheduled module to a C library.

    Parameters
    ----------
    mod, target, input_names, output_names, cc
        As for ``build_artifact``.
    folder
        Made if need be. Files in it of the library's names are replaced when everything is done.
    name
        Of the library, and what its functions' names begin with.
    separate_weights
        Whether the weights are written to a file that the caller maps, instead of into the library.

    check
        Called with the folder of the finished files, before they are moved to where they belong.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    ModelError
        The model needs TVM's virtual machine; the message says why.
    TargetError
        There is no C compiler for the target.
    ArtifactError
        ``folder`` cannot be written.
    """
    compiler = find_compiler(triple_of(target), cc)
    mod = tvm.transform.Sequential(pipeline.plan_weights())(mod)
    with target:
        entry = entry_of(mod, target)
    if isinstance(entry, str):
        raise ModelError(f"no C library can be made: the model needs TVM's virtual machine, since {entry}")
    prefix, weights_file = f"{name}_kernel_", f"{name}.weights"
    inputs, outputs = specs_of(mod["main"], input_names, output_names)
    place = check_output_folder(folder)
    kept = [*([weights_file] if separate_weights else []), f"lib{name}.so", f"lib{name}.a", f"{name}.h"]
    if taken := [file for file in kept if (place / file).is_dir()]:
        raise ArtifactError(f"{place / taken[0]} is a folder and is not replaced")
    try:
        place.mkdir(parents=True, exist_ok=True)
        with temporary_folder(place) as work:
            table = write_tensors(work / weights_file, [weight.numpy() for weight in mod.attrs[WEIGHTS_ATTR]])
            apart = put_id_first(work / weights_file) if separate_weights else (b"", 0)
            code = CSource(name, inputs, outputs, *apart)
            kernels = compile_kernels(mod, entry, target, prefix)
            objects = [f"{name}.o", f"{name}_kernels.o"]
            kernels.module.write_to_file(str(work / objects[1]), "o")
            (work / objects[1]).write_bytes(private_object((work / objects[1]).read_bytes(), name))
            (work / f"{name}.h").write_text(code.header(__version__, spec_of(target)))
            with target:
                line = entry_of(mod, target, kernels.scratch_bytes)
            assert isinstance(line, StraightLine), "it was one before"
            scratch = max(kernels.scratch_bytes.values(), default=0)
            (work / f"{name}.c").write_text(code.source(line, table, weights_file, scratch, prefix))
            compiler.compile(work, f"{name}.c", objects[0], "-fvisibility=hidden")
            compiler.archive(work, objects, f"lib{name}.a")
            compiler.link(work, objects, f"lib{name}.so", [f"-Wl,-soname,lib{name}.so"])
            check(work)
            for file in kept:  # the header last: what it says is there then
                os.replace(work / file, place / file)
            if not separate_weights:
                (place / weights_file).unlink(missing_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot write a C library to {place}: {reason(error)}") from error
    return [place / file for file in reversed(kept)]


def put_id_first(weights: Path) -> tuple[bytes, int]:
    """Have a file begin with what tells it from others, in `ALIGNMENT` bytes; returns that, and the file's new size."""
    data = weights.read_bytes()
    head = hashlib.sha256(data).digest()
    weights.write_bytes(head.ljust(ALIGNMENT, b"\0") + data)
    return head, ALIGNMENT + len(data)


def private_object(code: bytes, name: str) -> bytes:
    """An object file of LLVM's whose runtime pointers are those of the library ``name`` alone, see `backend_prefix`."""
    return code.replace(_BACKEND, backend_prefix(name).encode())
