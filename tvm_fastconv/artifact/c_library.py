"""A network as a C library: ``NAME.h``, ``libNAME.a``, ``libNAME.so``, and ``NAME.weights`` where they lie apart.

The same kernels as in a file for TVM's runtime, called by the same entry, without anything of TVM. Their assembly names
the runtime's pointers after the network, so that several libraries fit into one program.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tvm

from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.module.plan_weights import WEIGHTS_ATTR

from .. import __version__
from ..errors import ArtifactError, InputError, ModelError
from ..targets import triple_of
from ..temporary import temporary_folder
from .artifact import reason
from .build import specs_of, write_tensors
from .c_compiler import find_compiler
from .c_source import CSource, is_c_name
from .kernels import compile_kernels, entry_of


def check_library_name(name: str) -> str:
    """Return ``name``.

    Raises
    ------
    InputError
        A C library cannot be called so.
    """
    if not is_c_name(name):
        raise InputError(
            f"a C library cannot be named {name!r}; allowed: letters, digits and _, beginning with a letter"
        )
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
    code = CSource(name, inputs, outputs, separate_weights)
    place = check_output_folder(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with temporary_folder(place) as work:
            table = write_tensors(work / weights_file, [weight.numpy() for weight in mod.attrs[WEIGHTS_ATTR]])
            kernels = compile_kernels(mod, entry, target, prefix)
            kernels.module.write_to_file(str(work / "kernels.s"), "s")
            assembly = private_assembly((work / "kernels.s").read_text(), f"{name}_backend_")
            (work / "kernels.s").write_text(assembly)
            (work / f"{name}.h").write_text(code.header(__version__, str(target)))
            (work / f"{name}.c").write_text(
                code.source(entry, table, weights_file, kernels.scratch_bytes, prefix)
            )
            objects = [f"{name}.o", f"{name}_kernels.o"]
            for source, compiled in zip((f"{name}.c", "kernels.s"), objects, strict=True):
                compiler.compile(work, source, compiled, "-fvisibility=hidden")
            compiler.archive(work, objects, f"lib{name}.a")
            compiler.link(work, objects, f"lib{name}.so", [])
            made = [f"{name}.h", f"lib{name}.a", f"lib{name}.so"] + [weights_file] * separate_weights
            for file in made:
                os.replace(work / file, place / file)
    except OSError as error:
        raise ArtifactError(f"cannot write a C library to {place}: {reason(error)}") from error
    return [place / file for file in made]


def private_assembly(assembly: str, backend: str) -> str:
    """LLVM's assembly with runtime pointers of its own, whose names begin with ``backend``, and nothing for debuggers.

    GNU's assembler does not read some of that; and what LLVM shares among modules is no business of other libraries.
    """
    kept, in_code = [], True
    for line in assembly.replace("__TVMBackend", backend).splitlines(keepends=True):
        if (section := re.match(r"\s*\.(?:section\s+(\S+)|text|data|bss)", line)) is not None:
            in_code = not (section[1] or "").startswith(".debug_")
        if not in_code or re.match(r"\s*\.(?:loc\s|file\s+\d)", line):
            continue
        kept.append(line)
        if (shared := re.match(r"\s*\.weak\s+(\S+)", line)) is not None:
            kept.append(f"\t.hidden\t{shared[1]}\n")
    return "".join(kept)
