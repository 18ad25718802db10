"""The files of a kit that are text: programs, how to build them, and a README, made from templates."""

import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from .architectures import ARCHITECTURES
from .artifact.c_compiler import toolchain_triple
from .artifact.c_names import members
from .artifact.entry_source import dtype_code
from .artifact.manifest import Manifest
from .report import ALIGNMENT, ITEM_BYTES, TensorSpec

TEMPLATES = Path(__file__).parent / "kit"

PLACES = {"run.py.in": "run.py", "kit_network.py.in": "kit_network.py", "network.hpp": "{name}.hpp"}
"""Templates whose files are called otherwise."""


def write_reference(folder: Path, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
    """Inputs and the outputs expected for them, as the programs read them."""
    folder.mkdir()
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for i, array in enumerate(arrays):
            np.ascontiguousarray(array).tofile(folder / f"{kind}_{i}.bin")


def write_programs(place: Path, name: str, manifest: Manifest, tolerance: float, kind: str) -> None:
    """Programs that run the network ``name``, by its C library (kind "library") or by TVM's runtime ("runtime")."""
    words = {
        "name": name,
        "NAME": name.upper(),
        "tolerance": f"{tolerance:g}",
        "version": manifest.package_version,
        "tvm_version": manifest.tvm_version,
        "ffi_version": manifest.tvm_ffi_version,
        "alignment": str(ALIGNMENT),
        "target": manifest.target,
        "verify": manifest.verify,
        "why": _why(manifest),
        "batch": _batch_of(manifest),
        "triple": toolchain_triple(manifest.target.split()[0]),
        "musl": toolchain_triple(manifest.target.split()[0]).replace("-gnu", "-musl"),
        "python_needs": "NumPy"
        + (f" and apache-tvm-ffi {manifest.tvm_ffi_version}" if kind == "runtime" else ""),
        "machine": manifest.target.split("-")[0],
        "flags_line": "flags" if manifest.target.startswith("x86") else "Features",
        "processor_flags": repr(_processor_flags(manifest)),
        **_tensor_words(name, manifest.inputs, manifest.outputs),
    }
    templates = sorted([*(TEMPLATES / "common").iterdir(), *(TEMPLATES / kind).iterdir()])
    for template in sorted(templates, key=lambda path: path.name == "README.md"):  # which lists the others
        if template.name == "README.md":
            words["sizes"] = _sizes(place, name, kind)
        text = template.read_text(encoding="utf-8")
        made = re.sub(r"@(\w+)@", lambda word: words[word[1]], text)
        file = PLACES.get(template.name, template.name).format(name=name)
        (place / file).write_text(made, encoding="utf-8")


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
            f"`{member}` ({' x '.join(map(str, spec.shape)) or 'a scalar'}, {spec.dtype})"
            for member, spec in zip(members(specs), specs, strict=True)
        )

    def python(specs: Sequence[TensorSpec]) -> str:
        return repr([(spec.name, tuple(spec.shape), spec.dtype) for spec in specs])

    return {
        "input_count": str(len(inputs)),
        "output_count": str(len(outputs)),
        "tensor_bytes": ", ".join(str(_bytes_of_one(spec)) for spec in (*inputs, *outputs)),
        "in_batch": ", ".join(str(int(is_dynamic(spec))) for spec in (*inputs, *outputs)),
        "output_sizes": ", ".join(str(ITEM_BYTES[spec.dtype]) for spec in outputs),
        "output_dtypes": ", ".join(f'"{spec.dtype}"' for spec in outputs),
        "most_dimensions": str(max(1, *(len(spec.shape) for spec in (*inputs, *outputs)))),
        "ports": ", ".join(
            _port(spec, "{{{rank}, {{{shape}}}, {dtype}}}", "0") for spec in (*inputs, *outputs)
        ),
        "cc_ports": ", ".join(_port(spec, "{{{{{shape}}}, {dtype}}}") for spec in (*inputs, *outputs)),
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
        "npy_inputs": " ".join(f"input_{i}.npy" for i in range(len(inputs))),
        "npy_outputs": " ".join(f"output_{i}.npy" for i in range(len(outputs))),
        "python_inputs": python(inputs),
        "python_outputs": python(outputs),
        "python_reference": repr(files),
        "inputs": described(inputs) or "none",
        "outputs": described(outputs),
        "raw_inputs": " ".join(file for file in files if "/input_" in file),
        "raw_outputs": " ".join(f"output_{i}.bin" for i in range(len(outputs))),
    }


def _why(manifest: Manifest) -> str:
    """What its tolerance is for."""
    if manifest.verify.startswith("verified"):
        return "twice what it was off by where it was compiled, and 1e-4 at least"
    return "twice what rounding, which differs between machines, may move it by, and 1e-3 at least"


def _processor_flags(manifest: Manifest) -> list[str]:
    """What the code needs, in the words of Linux."""
    known = ARCHITECTURES[manifest.target.split("-")[0]].features
    return [known[feature] for feature in manifest.cpu_features]


def _batch_of(manifest: Manifest) -> str:
    """What the README says of it."""
    names = {n for spec in manifest.inputs for n in spec.shape if isinstance(n, str)}
    if not names:
        return ""
    return f"`{names.pop()}` is the batch, of any size; the programs take it from the inputs' files.\n"


def is_dynamic(spec: TensorSpec) -> bool:
    """Whether its shape holds the batch, of whatever size."""
    return any(isinstance(extent, str) for extent in spec.shape)


def _bytes_of_one(spec: TensorSpec) -> int:
    """With a batch of one."""
    return prod(1 if isinstance(extent, str) else extent for extent in spec.shape) * ITEM_BYTES[spec.dtype]


def _port(spec: TensorSpec, pattern: str, nothing: str = "") -> str:
    """A tensor in C or C++: -1 is the batch; a shape without dimensions is ``nothing``."""
    return pattern.format(
        rank=len(spec.shape),
        shape=", ".join("-1" if isinstance(extent, str) else str(extent) for extent in spec.shape) or nothing,
        dtype=f"{{{dtype_code(spec.dtype)}, {8 * ITEM_BYTES[spec.dtype]}, 1}}",
    )


_MEANINGS = {
    "library": {
        "{name}.h": "how to call it",
        "lib{name}.a": "the network: code and weights",
        "lib{name}.so": "the same, to be loaded",
        "{name}.hpp": "the same call in C++",
        "kit_pool.c": "threads for the network, if it shall have some",
        "kit_pool.h": "its two functions",
    },
    "runtime": {
        "{name}.so": "the network: code and weights",
        "runtime/libtvm_runtime.so": "TVM's runtime",
        "runtime/libtvm_ffi.so": "what that stands on",
    },
}
_SHARED_MEANINGS = {
    "main.c": "run, check, bench",
    "kit_program.c": "the calls for it",
    "kit_program.h": "what they are",
    "kit_illegal.h": "what is said where the processor is another",
    "main.cc": "run, in C++",
    "run.py": "run, check, bench, in Python",
    "kit_network.py": "the calls for it",
    "CMakeLists.txt": "builds the programs",
}


def _sizes(place: Path, name: str, kind: str) -> str:
    """Rows of the table of files."""
    rows = []
    for pattern, meaning in (_MEANINGS[kind] | _SHARED_MEANINGS).items():
        file = pattern.format(name=name)
        rows.append(f"| `{file}` | {(place / file).stat().st_size} | {meaning} |\n")
    return "".join(rows)
