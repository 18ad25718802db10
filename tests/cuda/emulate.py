"""Kernels that TVM generated for CUDA, run on the CPU: its CUDA source through g++ and ``emulator.h``.

TVM's own host code launches them. For a target whose ``target_device_type`` is that of the CPU it expects tensors of
the CPU, and it finds a kernel by its name: in the modules it imports, then among the global functions. So the CUDA
module is taken away from it, and each kernel becomes a global function that runs the emulated one.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import tirx

from tvm_fastconv.artifact.binary_stream import StreamReader

from .kernel_library import EmulationError, Launch, library_of, run_kernel

tvm_ffi.register_error(EmulationError)

ORDERS = (0, 1, 2)
"""In which order threads and blocks run: forwards, backwards, the even ones before the odd."""
TARGET = tvm.target.Target(
    {"kind": "cuda", "arch": "sm_90", "target_device_type": 1}, host=tvm.target.Target({"kind": "llvm"})
)
"""CUDA code in a host program for tensors of the CPU."""

POISON = 0xFF  # each byte of memory that nobody has written: NaN, or -1
GUARD = 4096  # bytes of poison on either side of an array
ALIGNMENT = 256  # of what cudaMalloc returns


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
    """The emulated kernels of an executable, while they are attached.

    Parameters
    ----------
    order
        One of ``ORDERS``; may be set between two calls. None: kernels do not run, and are only noted.
    """

    def __init__(self, order: int | None) -> None:
        self.order = order
        self.launches: list[Launch] = []
        self.captured: list[Captured] | None = None
        """Where a list, kernels are noted there as well."""


def run_emulated(
    func: tirx.PrimFunc,
    arrays: Sequence[np.ndarray],
    result_shape: Sequence[int],
    result_dtype: str,
    order: int = 0,
    source_edit: Callable[[str], str] | None = None,
) -> np.ndarray:
    """Call a scheduled function, whose last parameter is its result.

    Parameters
    ----------
    source_edit
        Changes the CUDA source before it is compiled, to see that a test notices.

    Raises
    ------
    EmulationError
        A kernel breaks a rule of CUDA (see ``emulator.h``), writes outside of the result, or cannot be compiled.
    """
    executable = compiled(func)
    with attach(executable, order, source_edit):
        return call(executable["main"], arrays, result_shape, result_dtype)


def run_in_all_orders(
    func: tirx.PrimFunc, arrays: Sequence[np.ndarray], result_shape: Sequence[int], result_dtype: str
) -> np.ndarray:
    """Call a scheduled function once for each order of threads; results of other bits are an ``AssertionError``."""
    executable = compiled(func)
    with attach(executable) as session:
        return in_all_orders(session, lambda: call(executable["main"], arrays, result_shape, result_dtype))


def in_all_orders(session: Session, run: Callable[[], np.ndarray]) -> np.ndarray:
    """Repeat ``run`` for each order of threads, assert that the bits of its results are equal, and return them."""
    results = []
    for session.order in ORDERS:
        results.append(run())
    for order, result in zip(ORDERS, results, strict=True):
        differ = np.count_nonzero(_bytes_of(result) != _bytes_of(results[0]))
        assert not differ, (
            f"threads in order {order} and {ORDERS[0]} give results that differ in {differ} bytes"
        )
    return results[0]


def launches(func: tirx.PrimFunc) -> list[Launch]:
    """The kernels that a scheduled function of constant shapes calls, in order; none of them runs."""
    executable = compiled(func)
    tensors = [tvm.runtime.empty([int(n) for n in param.shape], str(param.dtype)) for param in func.params]
    with attach(executable, order=None) as session:
        executable["main"](*tensors)
    return session.launches


def run_source(
    source: str,
    name: str,
    arguments: Sequence[np.ndarray | int | float],
    grid: Sequence[int],
    block: Sequence[int],
    shared_bytes: int = 0,
    order: int = 0,
) -> None:
    """Launch a kernel of CUDA source, ``extern "C" __global__``, on arrays that it changes in place."""
    codes = {"i": (0, 64, 1), "u": (1, 64, 1), "f": (2, 32, 1)}
    types = [(3, 64, 1) if isinstance(a, np.ndarray) else codes[np.asarray(a).dtype.kind] for a in arguments]
    values = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
    launch = Launch(name, _three(grid), _three(block), shared_bytes)
    run_kernel(library_of(source, (name,)), launch, types, values, order)


_attached: set[str] = set()


@contextmanager
def attach(
    executable: Any, order: int | None = 0, source_edit: Callable[[str], str] | None = None
) -> Iterator[Session]:
    """Emulate the CUDA kernels of an executable, be it of TIR or of Relax, that was compiled for ``TARGET``.

    Kernels are global names, which are given back at the end. The executable does not get its kernels back: it can be
    attached once, so change ``order`` of what this yields instead.
    """
    session = Session(order)
    no_device = {"__tvm_set_device": lambda *_: None}
    with global_functions(_emulated_kernels(executable.mod, session, source_edit) | no_device):
        yield session


def _emulated_kernels(
    root: tvm.runtime.Module, session: Session, source_edit: Callable[[str], str] | None
) -> dict[str, Callable]:
    functions: dict[str, Callable] = {}
    for host in _modules(root):
        devices = [module for module in host.imports if module.kind == "cuda"]
        if not devices:
            continue
        kernels = [kernel for module in devices for kernel in _kernels(host, module)]
        source = "\n".join(module.inspect_source() for module in devices)
        edited = source_edit(source) if source_edit else source
        if source_edit and edited == source:
            raise EmulationError("source_edit changes nothing in:\n" + source)
        names = tuple(kernel.name for kernel in kernels)
        functions |= {kernel.name: _function(kernel, edited, names, session) for kernel in kernels}
        host.clear_imports()
    if not functions:
        raise EmulationError("no CUDA kernel in the executable, or it has been attached before")
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


def _function(kernel: Kernel, source: str, names: tuple[str, ...], session: Session) -> Callable:
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
                run_kernel(library_of(source, names), launch, kernel.arguments, arguments, session.order)

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


def compiled(func: tirx.PrimFunc) -> tvm.runtime.Executable:
    """A scheduled function as ``executable["main"]``, to be attached; its CUDA code stays source, GPU or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVM_COMPILE_FORCE_FALLBACK", "1")
        return tvm.compile(func.with_attr("global_symbol", "main"), target=TARGET)


class _Guarded:
    """An array with poison on either side, as a tensor of TVM."""

    def __init__(self, shape: Sequence[int], dtype: str, content: np.ndarray | None = None) -> None:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self.memory = np.full(size + 2 * GUARD + ALIGNMENT, POISON, np.uint8)
        start = GUARD + -(self.memory.ctypes.data + GUARD) % ALIGNMENT
        self.inside = slice(start, start + size)
        self.array = self.memory[self.inside].view(dtype).reshape(tuple(shape))
        if content is not None:
            self.array[...] = content
        self.before = self.memory.copy()
        self.tensor = tvm.runtime.from_dlpack(self.array)

    def check(self, what: str, may_change: bool) -> None:
        changed = self.memory != self.before
        if may_change:
            changed[self.inside] = False
        if changed.any():
            at = int(np.flatnonzero(changed)[0]) - self.inside.start
            raise EmulationError(f"wrote to {what}, at byte {at} of {self.inside.stop - self.inside.start}")


def call(
    main: Callable, arrays: Sequence[np.ndarray], result_shape: Sequence[int], result_dtype: str
) -> np.ndarray:
    """Call attached code with poison around the arrays and in the result; it may write to nothing but the result."""
    inputs = [_Guarded(array.shape, array.dtype.name, array) for array in arrays]
    result = _Guarded(result_shape, result_dtype)
    main(*(each.tensor for each in inputs), result.tensor)
    for i, each in enumerate(inputs):
        each.check(f"input {i} or around it", may_change=False)
    result.check("what lies around the result", may_change=True)
    return result.array.copy()


def _bytes_of(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = [*sizes, 1, 1][:3]
    return x, y, z
