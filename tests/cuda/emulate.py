"""Kernels that TVM generated for CUDA, run on the CPU: its CUDA source through g++ and ``emulator.h``.

TVM's own host code launches them (`attach`).
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tvm
from tvm import tirx

from .attach import Session, attach
from .kernel_library import EmulationError, Launch, library_of, run_kernel

ORDERS = (0, 1, 2)
"""In which order threads and blocks run: forwards, backwards, the even ones before the odd."""
TARGET = tvm.target.Target(
    {"kind": "cuda", "arch": "sm_90", "target_device_type": 1}, host=tvm.target.Target({"kind": "llvm"})
)
"""CUDA code in a host program for tensors of the CPU."""

POISON = 0xFF  # each byte of memory that nobody has written: NaN, or -1
GUARD = 4096  # bytes of poison on either side of an array
ALIGNMENT = 256  # of what cudaMalloc returns


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


def compiled(func: tirx.PrimFunc, target: tvm.target.Target = TARGET) -> tvm.runtime.Executable:
    """A scheduled function as ``executable["main"]``, to be attached; its kernels stay source, GPU or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVM_COMPILE_FORCE_FALLBACK", "1")
        return tvm.compile(func.with_attr("global_symbol", "main"), target=target)


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
