"""The GPU of this process: whether it can run a file, and TVM's CUDA runtime, loaded without a compiler.

TVM's library for CUDA needs the driver and ``libcudart``.
"""

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from ..errors import ArtifactError
from .cudart import CUDART, cudart, load_first, on_first_gpu
from .device import CPU, CUDA
from .tvm_runtime import runtime_library, tvm_ffi

_MAJOR, _MINOR, _KILOHERTZ = 75, 76, 13  # CUdevice_attribute: COMPUTE_CAPABILITY_MAJOR and _MINOR, CLOCK_RATE


def gpu_obstacle(arches: Sequence[int]) -> str | None:
    """Return why machine code for ``arches`` (90 is 9.0) cannot run here, ``None`` if it can."""
    present = compute_capability()
    if present is None:
        return "it needs an NVIDIA GPU, and this machine has none, or no driver for it"
    if not any(_runs_on(arch, present) for arch in arches) and max(arches) > present:
        made = ", ".join(f"sm_{arch}" for arch in arches)
        return f"it holds code for {made}, and this GPU is sm_{present}"
    if _cuda_runtime() is None:
        return (
            f"TVM's CUDA runtime cannot be loaded: it needs {CUDART} (pip install nvidia-cuda-runtime) and a driver "
            "of CUDA 13"
        )
    return None


@cache
def compute_capability() -> int | None:
    """Return that of the first GPU, as 90 for 9.0; ``None`` where there is no GPU or no driver."""
    if (driver := _driver()) is None:
        return None
    digits = (ctypes.c_int(), ctypes.c_int())
    for digit, attribute in zip(digits, (_MAJOR, _MINOR), strict=True):
        if driver.cuDeviceGetAttribute(ctypes.byref(digit), attribute, 0):
            return None
    return 10 * digits[0].value + digits[1].value


def device_name() -> str | None:
    """Return what the driver calls the first GPU; ``None`` where there is no GPU or no driver."""
    name = ctypes.create_string_buffer(256)
    if (driver := _driver()) is None or driver.cuDeviceGetName(name, len(name), 0):
        return None
    return name.value.decode(errors="replace")


def gpu_clock() -> float:
    """Return the highest cycles in a second of the first GPU's multiprocessors, as the driver tells; 0 without one."""
    kilohertz = ctypes.c_int()
    if (driver := _driver()) is not None:
        driver.cuDeviceGetAttribute(ctypes.byref(kilohertz), _KILOHERTZ, 0)
    return 1e3 * kilohertz.value


@cache
def _driver() -> ctypes.CDLL | None:
    """The driver, if it has a GPU."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return None if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(ctypes.c_int()), 0) else driver


class _Turns:
    """One call at a time, in the order of the streams that they run on.

    TVM's pool of GPU memory knows no streams: what one call has given back, the next takes at once. So a stream that
    was not the last waits, on the GPU, for the one that was. And a thread must not launch, nor allocate, while another
    captures.
    """

    def __init__(self) -> None:
        self._lock, self._last = threading.Lock(), 0
        self._later: list[Callable[[], None]] = []

    @contextlib.contextmanager
    def on(self, stream: int) -> Iterator[None]:
        """Run what is inside on ``stream``, the address of a ``cudaStream_t`` or 0, as the only one.

        Raises
        ------
        ArtifactError
            The GPU refuses.
        """
        ffi = tvm_ffi()
        device = ffi.device("cuda", 0)
        with self._lock, on_first_gpu(), ffi.use_raw_stream(device, stream):
            while self._later:
                self._later.pop()()
            self._switch(stream)
            yield

    def back_from(self, stream: int) -> None:
        """Within a turn on ``stream``, which is about to be destroyed: the next one is not to wait for it."""
        if self._last == stream:
            self._last = 0

    def when_possible(self, work: Callable[[], None]) -> None:
        """Do it now, if nobody has a turn, else at the beginning of the next one; what a collector of garbage calls."""
        if not self._lock.acquire(blocking=False):
            self._later.append(work)
            return
        try:
            with on_first_gpu():
                work()
        finally:
            self._lock.release()

    def _switch(self, stream: int) -> None:
        if stream == self._last:
            return
        ffi = tvm_ffi()
        try:
            ffi.get_global_func("runtime.Device_StreamSyncFromTo")(ffi.device("cuda", 0), self._last, stream)
        except RuntimeError as error:
            raise ArtifactError(f"the GPU refuses: {first_line(error)}") from error
        self._last = stream


def first_line(error: Exception) -> str:
    """What went wrong, of a message of TVM's that says more."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


TURNS = _Turns()
"""Of this process."""


@contextlib.contextmanager
def without_graphs() -> Iterator[None]:
    """Virtual machines that are made inside call every kernel by itself, for those who look at single ones."""
    ffi = tvm_ffi()
    invoke = ffi.get_global_func("vm.builtin.invoke_closure")
    plain = {
        "vm.builtin.cuda_graph.get_cached_alloc": lambda vm, closure, _index: invoke(vm, closure),
        "vm.builtin.cuda_graph.run_or_capture": lambda vm, closure, args, *_index: invoke(vm, closure, *args),
    }
    captured = {name: ffi.get_global_func(name, allow_missing=True) for name in plain}
    try:
        for name, function in plain.items():
            ffi.register_global_func(name, function, override=True)
        yield
    finally:
        for name, found in captured.items():
            if found is not None:
                ffi.register_global_func(name, found, override=True)
            else:
                ffi.registry.remove_global_func(name)


def wait_for_gpu() -> None:
    """Return when everything on the stream of this thread is done."""
    ffi = tvm_ffi()
    device = ffi.device("cuda", 0)
    ffi.get_global_func("runtime.Device_StreamSync")(device, ffi.get_raw_stream(device))


def to_gpu(tensor: Any) -> Any:
    """Return a copy of ``tensor`` in the memory of the GPU."""
    return tvm_ffi().get_global_func("vm.builtin.to_device")(tensor, CUDA.type, 0)


def to_cpu(tensor: Any) -> Any:
    """Return ``tensor`` where NumPy can read it: itself, or a copy that waits for what computes it."""
    if tensor.device.dlpack_device_type() == CPU.type:
        return tensor
    return tvm_ffi().get_global_func("vm.builtin.to_device")(tensor, CPU.type, 0)


def _runs_on(arch: int, present: int) -> bool:
    """Machine code runs on its own architecture and later ones of the same major number."""
    return arch // 10 == present // 10 and arch <= present


@cache
def _cuda_runtime() -> ctypes.CDLL | None:
    """TVM's."""
    tvm_ffi()
    try:
        cudart()
        return load_first([os.path.join(os.path.dirname(runtime_library()), "libtvm_runtime_cuda.so")])
    except ArtifactError:
        return None
