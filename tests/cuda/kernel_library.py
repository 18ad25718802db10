"""CUDA source through g++ and ``emulator.h``: libraries of kernels that run on the CPU."""

import ctypes
import functools
import mmap
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HEADER = Path(__file__).with_name("emulator.h")
STACKS = mmap.mmap(-1, 1024 * 61760)  # LARGEST_BLOCK times STACK_BYTES of the header, touched where used
FLAGS = [
    "-std=c++17 -O2 -fPIC -fvisibility=hidden -march=native",
    "-ffp-contract=off",  # the same numbers on every machine
    "-fno-strict-aliasing",  # vector accesses are casts of pointers
    "-ftrivial-auto-var-init=pattern",  # an accumulator that nobody has set is 0xFEFEFEFE
    "-fsanitize=alignment,bounds -fno-sanitize-recover=all",
    "-Werror=frame-larger-than=16384",  # of the stack of a thread
]


class EmulationError(RuntimeError):
    """A kernel does what CUDA forbids, or cannot be compiled."""


class Launch(NamedTuple):
    """How one kernel was called."""

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    """Of dynamic shared memory."""


def run_kernel(
    library: ctypes.CDLL,
    launch: Launch,
    types: Sequence[tuple[int, int, int]],
    values: Sequence[Any],
    order: int,
) -> None:
    cells = [_cell(value, type_) for value, type_ in zip(values, types, strict=True)]
    pointers = (ctypes.c_void_p * max(len(cells), 1))(*[ctypes.addressof(cell) for cell in cells])
    shape = (ctypes.c_uint * 6)(*launch.grid, *launch.block)
    entry = getattr(library, f"launch_{launch.name}")
    entry.restype = ctypes.c_char_p
    stacks = ctypes.addressof(ctypes.c_char.from_buffer(STACKS))
    message = entry(pointers, shape, launch.shared_bytes, order, ctypes.c_void_p(stacks))
    if message is not None:
        raise EmulationError(f"{launch.name}: {_with_lines(message.decode(), library.source)}")


def _cell(value: Any, type_: tuple[int, int, int]) -> ctypes._SimpleCData:
    code, bits, _ = type_
    if code == 3:
        return ctypes.c_uint64(value)
    if code == 2:
        return {32: ctypes.c_float, 64: ctypes.c_double}[bits](value)
    return ctypes.c_int64(int(value))  # its low bytes are those of a narrower integer


def _with_lines(message: str, source: str) -> str:
    lines = source.splitlines()
    numbers = dict.fromkeys(int(n) for n in re.findall(r"line (\d+)", message))
    return "\n".join([message, *(f"{n:5} | {lines[n - 1].strip()}" for n in numbers if 0 < n <= len(lines))])


_folder = functools.cache(lambda: tempfile.TemporaryDirectory(prefix="cuda-emulator-"))


@functools.cache
def _header(flags: str) -> str:
    """A copy of the header beside its precompiled form, which g++ takes by itself, and without a look at the flags."""
    header = shutil.copy(HEADER, tempfile.mkdtemp(dir=_folder().name))
    _compile(["g++", *flags.split(), "-x", "c++-header", header, "-o", f"{header}.gch"])
    return header


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise EmulationError(f"g++ on the CUDA source:\n{done.stderr}")


def library_of(source: str, names: tuple[str, ...]) -> ctypes.CDLL:
    """The kernels of CUDA source as functions ``launch_NAME``, compiled once in a session."""
    return _build(source, names, " ".join(FLAGS))


@functools.cache
def _build(source: str, names: tuple[str, ...], flags: str) -> ctypes.CDLL:
    folder = Path(tempfile.mkdtemp(dir=_folder().name))
    library = ctypes.CDLL(str(build_library(source, names, folder, _header(flags), flags)))
    library.source = source
    return library


def build_library(
    source: str,
    names: Sequence[str],
    folder: Path,
    header: str | Path = HEADER,
    flags: str = " ".join(FLAGS),
) -> Path:
    """Compile kernels of CUDA source to a library in ``folder``, which has a ``launch_NAME`` for each."""
    code, objects, built = (str(folder / f"kernels.{suffix}") for suffix in ("cc", "o", "so"))
    Path(code).write_text(
        "\n".join([_as_cplusplus(source, names), *(_launcher(source, name) for name in names)])
    )
    _compile(["g++", *flags.split(), "-include", str(header), "-c", code, "-o", objects])
    # Linked apart: with the flags it would link g++'s handlers, and the header has its own.
    _compile(["g++", "-shared", objects, "-o", built])
    return Path(built)


def _as_cplusplus(source: str, names: Sequence[str]) -> str:
    """The same lines, as ``emulator.h`` wants them."""
    source = re.sub(r"#\s*include\s*<(cuda|cuda_runtime|math_constants)\.h>", "", source)
    source = re.sub(
        r"extern __shared__\s+(?:(?:__align__|alignas)\(\d+\)\s+)?([\w ]+?)\s+(\w+)\[\];",
        r"\1* const \2 = (\1*)fastconv_emulated::dynamic_shared;",
        source,
    )
    parts, last, section = [], 0, ""
    for begin in sorted((_definition(source, name) for name in names), key=re.Match.start):
        parts += [source[last : begin.end()].replace("__shared__", section), INDICES]
        last, section = begin.end(), f'static __attribute__((section("{_section(begin[1])}")))'
    return "".join([*parts, source[last:].replace("__shared__", section)])


INDICES = " const uint3 threadIdx = ::threadIdx, blockIdx = ::blockIdx;"
"""In front of the body of a kernel: g++ then knows that no store changes them."""


def _definition(source: str, name: str) -> re.Match:
    """Of a kernel, up to its body: its name and parameters."""
    found = list(re.finditer(rf"\b({name})\s*\(([^()]*)\)\s*\{{", source))
    if len(found) != 1:
        raise EmulationError(f"{len(found)} definitions of the kernel {name} in:\n{source}")
    return found[0]


def _section(name: str) -> str:
    return f"shared_of_{name}"


def _launcher(source: str, name: str) -> str:
    parameters = _definition(source, name)[2]
    types = [
        re.sub(r"\w+\s*$", "", p.replace("__restrict__", "")).strip()
        for p in parameters.split(",")
        if p.strip()
    ]
    kinds = "".join("p" if type_.endswith("*") else "v" for type_ in types)  # pointers and values
    arguments = ", ".join(f"*({type_}*)a[{i}]" for i, type_ in enumerate(types))
    start, stop = (f"__{end}_{_section(name)}" for end in ("start", "stop"))
    return f"""
extern "C" char {start}[] __attribute__((weak, visibility("hidden")));
extern "C" char {stop}[] __attribute__((weak, visibility("hidden")));
extern "C" {{ __attribute__((visibility("default"))) char parameters_{name}[] = "{kinds}"; }}
extern "C" __attribute__((visibility("default")))
const char* launch_{name}(void** a, const unsigned* n, unsigned shared_bytes, int order, char* stacks) {{
  return fastconv_emulated::launch({{{{n[0], n[1], n[2]}}, {{n[3], n[4], n[5]}}, shared_bytes, order}},
      [](void** a) {{ {name}({arguments}); }}, a, {start}, {stop}, stacks);
}}"""
