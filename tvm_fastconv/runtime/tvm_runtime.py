"""TVM's runtime library through ``tvm_ffi`` alone: no compiler, no PyTorch.

``import tvm_ffi`` imports PyTorch when that is installed (1 s, 200 MB) and needs it for nothing that happens here.
"""

import contextlib
import ctypes
import importlib.metadata
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from functools import cache
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

from ..errors import ArtifactError
from .device import CPU, Device

_loads = itertools.count(1)
_libraries: "weakref.WeakValueDictionary[tuple[int, int], Library]" = weakref.WeakValueDictionary()
_lock = threading.Lock()


class Library:
    """A compiled model mapped as code; unmapped when the last reference, virtual machines included, is gone."""

    def __init__(self, path: str, device: Device = CPU) -> None:
        self._module, self._device = _load_module(path), device

    def new_machine(self) -> Any:
        """Return a fresh virtual machine. One must not run in two threads at once; all of a library share weights."""
        machine = self._module["vm_load_executable"]()
        places = (self._device, CPU)  # the last one is where shapes are computed
        machine["vm_initialization"](*(n for place in places for n in (place.type, 0, place.allocator)))
        return machine

    def function(self, name: str) -> Any:
        """Return a function that the library exports."""
        return self._module.get_function(name, query_imports=True)


def open_library(path: str, device: Device = CPU) -> Library:
    """Map a checked file as code that runs on ``device``. Files that are the same file on disk share one library."""
    status = os.stat(path)
    key = (status.st_dev, status.st_ino)
    with _lock:
        library = _libraries.get(key)
        if library is None:
            library = _libraries[key] = Library(path, device)
    return library


@cache
def tvm_ffi() -> ModuleType:
    """Return the ``tvm_ffi`` module with TVM's runtime library loaded."""
    with _without_torch():
        import tvm_ffi
    if sys.modules.get("tvm") is None:
        # Global, since the compiled models take TVM's symbols from the process.
        ctypes.CDLL(runtime_library(), mode=ctypes.RTLD_GLOBAL)
    return tvm_ffi


def runtime_library() -> str:
    """Return the path of ``libtvm_runtime.so``: from ``TVM_LIBRARY_PATH``, the installed TVM, else its bare name."""
    name = "libtvm_runtime.so"
    paths = [os.path.join(os.environ.get("TVM_LIBRARY_PATH", ""), name)]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        paths.append(str(importlib.metadata.distribution("apache-tvm").locate_file(f"tvm/lib/{name}")))
    return next(filter(os.path.exists, paths), name)


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, ``None`` for a runtime that was not installed by pip."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _load_module(path: str) -> Any:
    # The dynamic linker takes two loads of one path for the same library even when the file was replaced in between,
    # so every load spells the path differently: the number of the load, in binary, written as "/." and "/".
    folder, name = os.path.split(os.path.abspath(path))
    alias = folder + "".join("/." if digit == "1" else "/" for digit in f"{next(_loads):b}") + "/" + name
    load = tvm_ffi().get_global_func("ffi.Module.load_from_file.so")
    try:
        return load(alias, "so")
    except RuntimeError as error:
        raise ArtifactError(f"{path} cannot be loaded as code: {str(error).splitlines()[-1]}") from error


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Make ``import torch`` fail in this thread, unless it is imported already."""
    finder = _NoTorch(threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _NoTorch(MetaPathFinder):
    def __init__(self, thread: int) -> None:
        self._thread = thread

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        # Other threads may be importing PyTorch for good at this moment.
        if fullname == "torch" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError("PyTorch is not needed to load a compiled model", name="torch")
