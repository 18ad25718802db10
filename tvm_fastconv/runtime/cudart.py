"""CUDA's runtime library, by the functions that we call ourselves.

Names, arguments and constants are those of its reference manual. The library is looked for where the dynamic linker
looks, and in NVIDIA's Python packages, where PyTorch has it too.
"""

import contextlib
import ctypes
import importlib.metadata
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from ..errors import ArtifactError

CUDART = "libcudart.so.13"

OWN_STREAM, RELAXED, ANY_COPY = 1, 2, 4
"""``cudaStreamNonBlocking``, ``cudaStreamCaptureModeRelaxed``, ``cudaMemcpyDefault``."""

_HANDLE, _RESULT, _SIZE, _INT = (
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_size_t,
    ctypes.c_int,
)
_ARGUMENTS: dict[str, list[Any]] = {
    "cudaDeviceSynchronize": [],
    "cudaEventCreate": [_RESULT],
    "cudaEventDestroy": [_HANDLE],
    "cudaEventElapsedTime": [ctypes.POINTER(ctypes.c_float), _HANDLE, _HANDLE],
    "cudaEventRecord": [_HANDLE, _HANDLE],
    "cudaEventSynchronize": [_HANDLE],
    "cudaFree": [_HANDLE],
    "cudaGetDevice": [ctypes.POINTER(_INT)],
    "cudaGraphDestroy": [_HANDLE],
    "cudaGraphExecDestroy": [_HANDLE],
    "cudaGraphInstantiate": [_RESULT, _HANDLE, ctypes.c_ulonglong],
    "cudaGraphLaunch": [_HANDLE, _HANDLE],
    "cudaMalloc": [_RESULT, _SIZE],
    "cudaMemcpyAsync": [_HANDLE, _HANDLE, _SIZE, _INT, _HANDLE],
    "cudaMemsetAsync": [_HANDLE, _INT, _SIZE, _HANDLE],
    "cudaSetDevice": [_INT],
    "cudaStreamBeginCapture": [_HANDLE, _INT],
    "cudaStreamCreateWithFlags": [_RESULT, ctypes.c_uint],
    "cudaStreamDestroy": [_HANDLE],
    "cudaStreamEndCapture": [_HANDLE, _RESULT],
    "cudaStreamSynchronize": [_HANDLE],
}


def call(name: str, *arguments: Any) -> None:
    """Call a function; handles and addresses are integers.

    Raises
    ------
    ArtifactError
        It fails; the message is CUDA's.
    """
    if error := _functions()[name](*arguments):
        cudart().cudaGetLastError()  # else whoever asks next, such as PyTorch, would take it for theirs
        text = cudart().cudaGetErrorString
        text.restype = ctypes.c_char_p
        raise ArtifactError(f"{name}: {text(error).decode(errors='replace')}")


def new(create: str, *arguments: int) -> int:
    """What a function hands out by way of its first argument.

    Raises
    ------
    ArtifactError
        It fails.
    """
    handle = ctypes.c_void_p()
    call(create, ctypes.byref(handle), *arguments)
    return handle.value or 0


@contextlib.contextmanager
def owned(destroy: str, handle: int) -> Iterator[int]:
    """``handle``, given back to ``destroy`` at the end."""
    try:
        yield handle
    finally:
        call(destroy, handle)


def copy(to: int, source: int, nbytes: int, stream: int) -> None:
    """Begin to copy memory, of the host or the GPU, on ``stream``."""
    call("cudaMemcpyAsync", to, source, nbytes, ANY_COPY, stream)


@contextlib.contextmanager
def capturing(stream: int) -> Iterator[list[int]]:
    """Capture what is begun on ``stream`` inside; the list then holds an executable graph of it."""
    graphs: list[int] = []
    captured = ctypes.c_void_p()
    call("cudaStreamBeginCapture", stream, RELAXED)
    try:
        yield graphs
    finally:
        call("cudaStreamEndCapture", stream, ctypes.byref(captured))
    with owned("cudaGraphDestroy", captured.value or 0) as graph:
        graphs.append(new("cudaGraphInstantiate", graph, 0))


@cache
def cudart() -> ctypes.CDLL:
    """The library.

    Raises
    ------
    ArtifactError
        It is not installed.
    """
    return load_first(_paths())


@cache
def _functions() -> dict[str, Any]:
    found = {name: getattr(cudart(), name) for name in _ARGUMENTS}
    for name, function in found.items():
        function.argtypes = _ARGUMENTS[name]
    return found


def _paths() -> Iterable[str]:
    yield CUDART
    for package, place in (
        ("nvidia-cuda-runtime", "nvidia/cu13/lib"),
        ("nvidia-cuda-runtime-cu13", "nvidia/cuda_runtime/lib"),
    ):
        try:
            yield str(importlib.metadata.distribution(package).locate_file(f"{place}/{CUDART}"))
        except importlib.metadata.PackageNotFoundError:
            continue


@contextlib.contextmanager
def on_first_gpu() -> Iterator[None]:
    """Have the first GPU be the current one of this thread."""
    before = ctypes.c_int()
    call("cudaGetDevice", ctypes.byref(before))
    if not before.value:
        yield
        return
    call("cudaSetDevice", 0)
    try:
        yield
    finally:
        call("cudaSetDevice", before.value)


def load_first(paths: Iterable[str]) -> ctypes.CDLL:
    """Load the first of ``paths`` that there is, for all libraries of the process.

    Raises
    ------
    ArtifactError
        There is none.
    """
    for path in paths:
        try:
            return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
    raise ArtifactError("none of them can be loaded")
