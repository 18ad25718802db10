"""``fc.deploy``: a folder with everything that a device needs to run a network, check it and time it."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from tvm_fastconv.topi.machine import Machine

from .artifact.artifact import reason
from .artifact.c_library import check_library_name, check_output_folder
from .artifact.c_source import members
from .artifact.manifest import Manifest
from .c_library import c_library_of
from .errors import ArtifactError, ModelError
from .method_patterns import Methods
from .prepare import prepare
from .record_files import RecordFiles, records_for
from .report import TensorSpec
from .runtime.compiled_model import CompiledModel
from .runtime.threads import check_threads
from .temporary import temporary_folder
from .tvm_log import quiet_tvm
from .verify import obstacle_here, obstacle_to_verifying

TEMPLATES = Path(__file__).parent / "kit"

FILES = {
    "main.c": "main.c",
    "kit_pool.h": "kit_pool.h",
    "kit_pool.c": "kit_pool.c",
    "network.hpp": "{name}.hpp",
    "main.cc": "main.cc",
    "run.py.in": "run.py",
    "CMakeLists.txt": "CMakeLists.txt",
    "README.md": "README.md",
}
"""Template to the file that is made of it."""

LEAST_TOLERANCE = 1e-4
"""Of a check, relative to the largest expected value: sums in another order, libraries of other mathematics."""

UNSEEN_TOLERANCE = 1e-3
"""Where the compiled code was not run before."""


UNSEEN_BITS_TOLERANCE = 0.1
"""Where it has bits besides: a value that lies at its threshold may turn one, and with it all that comes behind."""


@dataclass(frozen=True)
class Kit:
    """What `deploy` made.

    Attributes
    ----------
    name : str
        Of the network and its programs.
    folder : Path
    compiled : CompiledModel
        The same kernels as a file for TVM's runtime.
    """

    name: str
    folder: Path
    compiled: CompiledModel

    @property
    def manifest(self) -> Manifest:
        """Everything that is known of the network."""
        return self.compiled.manifest


@quiet_tvm()
def deploy(
    model: Any,
    example_inputs: Any = None,
    *,
    folder: str | Path,
    name: str = "model",
    target: str | Path | tvm.target.Target | Mapping[str, Any] = "native",
    machine: Machine | str | Path | None = None,
    methods: Methods | None = None,
    records: RecordFiles = None,
    cc: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Kit:
    """Compile a CNN to a C library, with programs in C, C++ and Python that run it, check it and time it.

    Parameters
    ----------
    model, example_inputs, target, machine, methods, records, cc, progress
        As for `compile`. Example inputs are needed: the kit checks itself with them.
    folder : path
        Where nothing is yet. Its ``README.md`` says how to build and run the programs.
    name : str
        Of the network, its library and its programs.

    Raises
    ------
    ModelError, TargetError, MethodError, InputError, FastconvError
        As for `compile_c_library`.
    ArtifactError
        ``folder`` holds something, or cannot be written.
    """
    check_library_name(name)
    place = check_output_folder(folder)
    _check_empty(place)
    tell = progress or (lambda step: None)
    prepared = prepare(model, example_inputs, target, machine, methods, None, tell, cc)
    if said := obstacle_to_verifying(prepared.imported.example_inputs):
        raise ModelError(f"a kit checks itself with example inputs: {said.removeprefix('not verified: ')}")
    known = records_for(records, prepared.target, prepared.machine, check_threads(None))
    with temporary_folder(next(each for each in place.absolute().parents if each.exists())) as work:
        library = c_library_of(prepared, known, work / "kit", name, cc=cc, tell=tell)
        compiled = library.compiled
        pair = compiled.reference()
        assert pair is not None, "there are example inputs"
        try:
            _write_reference(work / "kit" / "reference", *pair)
            _write_programs(work / "kit", name, compiled, tolerance_of(compiled))
            place.absolute().parent.mkdir(parents=True, exist_ok=True)
            os.rename(work / "kit", place)
        except OSError as error:
            raise ArtifactError(f"cannot write the kit {place}: {reason(error)}") from error
    return Kit(name, place, compiled)


def tolerance_of(compiled: CompiledModel) -> float:
    """What a device may be off by: twice what was measured here, if the code runs here."""
    if obstacle_here(tvm.target.Target(compiled.manifest.target)):
        has_bits = any("bit" in layer.op or "xnor" in layer.op for layer in compiled.layers)
        return UNSEEN_BITS_TOLERANCE if has_bits else UNSEEN_TOLERANCE
    return max(LEAST_TOLERANCE, float(f"{2 * compiled.check():.0e}"))


def _check_empty(place: Path) -> None:
    """Refuse what a new folder cannot take the place of."""
    try:
        there = place.exists() or place.is_symlink()
        if there and (place.is_symlink() or not place.is_dir() or any(place.iterdir())):
            raise ArtifactError(f"{place} is there already; a kit is written where nothing is")
        if there and place.samefile("."):
            raise ArtifactError(f"{place} is the current folder; a kit gets a folder of its own")
    except OSError as error:
        raise ArtifactError(f"cannot write the kit {place}: {reason(error)}") from None


def _write_reference(folder: Path, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
    folder.mkdir()
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for i, array in enumerate(arrays):
            np.ascontiguousarray(array).tofile(folder / f"{kind}_{i}.bin")


def _write_programs(place: Path, name: str, compiled: CompiledModel, tolerance: float) -> None:
    manifest = compiled.manifest
    words = {
        "name": name,
        "NAME": name.upper(),
        "tolerance": f"{tolerance:g}",
        "version": manifest.package_version,
        "target": manifest.target,
        "verify": manifest.verify,
        **_tensor_words(name, manifest.inputs, manifest.outputs),
    }
    for template, file in FILES.items():
        if template == "README.md":
            words["sizes"] = _sizes(place)
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        made = re.sub(r"@(\w+)@", lambda word: words[word[1]], text)
        (place / file.format(name=name)).write_text(made, encoding="utf-8")


def _tensor_words(name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, str]:
    """What the templates say once for each tensor."""
    upper, ports = name.upper(), {"input": inputs, "output": outputs}
    numbered = [(kind, i) for kind, specs in ports.items() for i in range(len(specs))]
    files = [f"reference/{kind}_{i}.bin" for kind, i in numbered]
    argument = {key: at + 1 for at, key in enumerate(numbered)}

    def joined(kind: str, text: str) -> str:
        return ", ".join(text.format(i=i, at=argument[kind, i] - 1) for i in range(len(ports[kind])))

    def allocated(kind: str, i: int) -> str:
        macro, at = f"{upper}_{kind.upper()}_{i}", argument[kind, i]
        lines = f"  const auto {kind}_{i} = {name}_network::allocate<{macro}_TYPE>({macro}_BYTES);\n"
        if kind == "input":
            lines += f"  read_file(arguments[{at}], {kind}_{i}.get(), {macro}_BYTES);\n"
        return lines

    def described(specs: Sequence[TensorSpec]) -> str:
        return ", ".join(
            f"`{member}` ({' x '.join(map(str, spec.shape))}, {spec.dtype})"
            for member, spec in zip(members(specs), specs, strict=True)
        )

    def python(specs: Sequence[TensorSpec]) -> str:
        return repr([(spec.name, tuple(spec.shape), spec.dtype) for spec in specs])

    return {
        "tensor_bytes": ", ".join(f"{upper}_{kind.upper()}_{i}_BYTES" for kind, i in numbered),
        "output_sizes": joined("output", f"sizeof({upper}_OUTPUT_{{i}}_TYPE)"),
        "output_dtypes": joined("output", f"{upper}_OUTPUT_{{i}}_DTYPE"),
        "reference_files": ", ".join(f'"{file}"' for file in files),
        "input_members": joined("input", "(const void*)tensors[{at}]"),
        "output_members": joined("output", "(void*)tensors[{at}]"),
        "cc_tensors": "".join(allocated(kind, i) for kind, i in numbered),
        "cc_inputs": joined("input", "input_{i}.get()"),
        "cc_outputs": joined("output", "output_{i}.get()"),
        "cc_writes": "".join(
            f"  write_file(arguments[{argument['output', i]}], output_{i}.get(), {upper}_OUTPUT_{i}_BYTES);\n"
            for i in range(len(outputs))
        ),
        "python_inputs": python(inputs),
        "python_outputs": python(outputs),
        "python_reference": repr(files),
        "inputs": described(inputs) or "none",
        "outputs": described(outputs),
        "raw_inputs": " ".join(file for file in files if "/input_" in file),
        "raw_outputs": " ".join(f"output_{i}.bin" for i in range(len(outputs))),
    }


_MEANINGS = {
    ".h": "how to call it",
    ".a": "the network: code and weights",
    ".so": "the same, to be loaded",
    ".hpp": "the same call in C++",
    "main.c": "run, check, bench",
    "main.cc": "run, in C++",
    "kit_pool.c": "threads for the network, if it shall have some",
    "run.py": "run, check, bench, in Python with NumPy",
    "CMakeLists.txt": "builds the programs",
}


def _sizes(place: Path) -> str:
    """Rows of the table of files."""
    rows = []
    for path in sorted(place.iterdir()):
        if meaning := _MEANINGS.get(path.name) or _MEANINGS.get(path.suffix):
            rows.append(f"| `{path.name}` | {path.stat().st_size} | {meaning} |\n")
    return "".join(rows)
