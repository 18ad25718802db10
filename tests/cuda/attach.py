"""Kernels that TVM generated for a GPU, called from its own host code, and run on the CPU by an engine.

For a target whose ``target_device_type`` is that of the CPU the host code expects tensors of the CPU, and it finds a
kernel by its name: in the modules it imports, then among the global functions. So the module of the GPU is taken away
from it, and each kernel becomes a global function that hands it to the engine.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import tvm
import tvm_ffi

from tvm_fastconv.artifact.binary_stream import StreamReader

from . import kernel_library
from .kernel_library import EmulationError, Launch

tvm_ffi.register_error(EmulationError)


class Engine(NamedTuple):
    """What compiles and runs kernels in the language of a kind of target."""

    kind: str
    library_of: Callable[[str, tuple[str, ...]], Any]
    """Source and names of its kernels → their compiled form; the same one for equal arguments."""
    run_kernel: Callable[[Any, Launch, Sequence[tuple[int, int, int]], Sequence[Any], int], None]
    """Called with that, how to launch, types and values of the arguments, and the order of threads."""


EMULATOR = Engine("cuda", kernel_library.library_of, kernel_library.run_kernel)


class Kernel(NamedTuple):
    """What the host code hands to a kernel: its arguments, then one number for each launch tag."""

    name: str
    arguments: tuple[tuple[int, int, int], ...]
    """(type code of DLPack, bits, lanes); a pointer has the type code 3."""
    tags: tuple[str, ...]


class Captured(NamedTuple):
    """A kernel that was launched, to be launched again with the same arguments."""

    again: Callable[[], None]
    name: str
    addresses: set[int]
    """Of the arrays that it was given."""


class Session:
    """The kernels of an executable, while they are attached.

    Parameters
    ----------
    order
        Of threads, a number that the engine knows; may be set between two calls. None: kernels do not run, and are
        only noted.
    """

    def __init__(self, order: int | None) -> None:
        self.order = order
        self.launches: list[Launch] = []
        self.captured: list[Captured] | None = None
        """Where a list, kernels are noted there as well."""


_attached: set[str] = set()


@contextmanager
def attach(
    executable: Any,
    order: int | None = 0,
    source_edit: Callable[[str], str] | None = None,
    engine: Engine = EMULATOR,
) -> Iterator[Session]:
    """Run the kernels of an executable, be it of TIR or of Relax, on the CPU.

    Kernels are global names, which are given back at the end. The executable does not get its kernels back: it can be
    attached once, so change ``order`` of what this yields instead.
    """
    session = Session(order)
    no_device = {"__tvm_set_device": lambda *_: None}
    with global_functions(_functions(executable.mod, session, source_edit, engine) | no_device):
        yield session


def _functions(
    root: tvm.runtime.Module, session: Session, source_edit: Callable[[str], str] | None, engine: Engine
) -> dict[str, Callable]:
    functions: dict[str, Callable] = {}
    for host in _modules(root):
        devices = [module for module in host.imports if module.kind == engine.kind]
        if not devices:
            continue
        kernels = [kernel for module in devices for kernel in _kernels(host, module)]
        source = "\n".join(module.inspect_source() for module in devices)
        edited = source_edit(source) if source_edit else source
        if source_edit and edited == source:
            raise EmulationError("source_edit changes nothing in:\n" + source)
        names = tuple(kernel.name for kernel in kernels)
        functions |= {kernel.name: _function(kernel, edited, names, session, engine) for kernel in kernels}
        host.clear_imports()
    if not functions:
        raise EmulationError(f"no {engine.kind} kernel in the executable, or it has been attached before")
    taken = _attached & functions.keys()
    if taken:
        raise EmulationError(
            f"kernels of another executable that is attached have the same names: {sorted(taken)}"
        )
    return functions


def _modules(root: tvm.runtime.Module) -> Iterator[tvm.runtime.Module]:
    yield root
    for module in root.imports:
        yield from _modules(module)


def _function(
    kernel: Kernel, source: str, names: tuple[str, ...], session: Session, engine: Engine
) -> Callable:
    count = len(kernel.arguments)

    def launch_with(*values: Any) -> None:
        tags = dict(zip(kernel.tags, values[count:], strict=True))
        grid, block = (
            _three([int(tags.get(f"{index}.{axis}", 1)) for axis in "xyz"])
            for index in ("blockIdx", "threadIdx")
        )
        launch = Launch(kernel.name, grid, block, int(tags.get("tirx.use_dyn_shared_memory", 0)))
        # Of pointers the addresses: what TVM hands over is only there for the call.
        arguments = [getattr(value, "value", value) or 0 for value in values[:count]]

        def launch_again() -> None:
            session.launches.append(launch)
            if session.order is not None:
                library = engine.library_of(source, names)
                engine.run_kernel(library, launch, kernel.arguments, arguments, session.order)

        if session.captured is not None:
            pointers = {at for at, type_ in zip(arguments, kernel.arguments, strict=True) if type_[0] == 3}
            session.captured.append(Captured(launch_again, kernel.name, pointers))
        launch_again()

    return launch_with


@contextmanager
def global_functions(functions: dict[str, Callable]) -> Iterator[None]:
    before = {name: tvm_ffi.get_global_func(name, allow_missing=True) for name in functions}
    for name, function in functions.items():
        tvm_ffi.register_global_func(name, function, override=True)
    _attached.update(functions)
    try:
        yield
    finally:
        _attached.difference_update(functions)
        for name, function in before.items():
            if function is None:
                tvm_ffi.remove_global_func(name)
            else:
                tvm_ffi.register_global_func(name, function, override=True)


def _kernels(host: tvm.runtime.Module, device: tvm.runtime.Module) -> list[Kernel]:
    """The table of a CUDA module, which nothing but its saved form holds."""
    saved = StreamReader(tvm.get_global_func("runtime.ModulePackImportsToTensor")(host).numpy().tobytes())
    saved.number()
    for _ in range(2):  # the tree of imports
        saved.take(8 * saved.number())
    found = []
    while saved.at < len(saved.data):
        kind = saved.text()
        if kind == b"_lib":
            continue
        content = StreamReader(saved.text())
        if kind == device.kind.encode():
            content.text()  # the format of its code
            found += [_kernel(content) for _ in range(content.number())]
    return found


def _kernel(content: StreamReader) -> Kernel:
    content.text()
    name = content.text().decode()
    arguments = tuple(struct.unpack("<BBH", content.take(4)) for _ in range(content.number()))
    tags = tuple(content.text().decode() for _ in range(content.number()))
    content.take(4 * content.number())
    return Kernel(name, arguments, tags)


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = [*sizes, 1, 1][:3]
    return x, y, z
