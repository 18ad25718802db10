"""What TVM makes of CUDA graphs, without CUDA: stand-ins for the two builtins of its runtime.

A region of kernels runs as it is once. From then on the kernels that it called are launched again, with the addresses
that they had then, and nothing else of it is looked at; so is the memory it was given. Results are the tensors of the
first time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import tvm

from tvm_fastconv.runtime.device import CPU
from tvm_fastconv.runtime.tvm_runtime import runtime_library

from .attach import Captured, Session, global_functions
from .kernel_library import EmulationError

MOST_PAGES = 16
"""Of TVM's pool, that a function without calls of others has at once."""


@dataclass
class Graphs:
    """Of one virtual machine, whose kernels are those of ``session``."""

    session: Session
    memory: dict[int, Any] = field(default_factory=dict)
    kernels: dict[tuple[int, ...], list[Captured]] = field(default_factory=dict)
    results: dict[tuple[int, ...], Any] = field(default_factory=dict)
    replayed: int = 0
    """Kernels that were launched by graphs."""

    def cached_alloc(self, machine: Any, closure: Any, index: int) -> Any:
        if index not in self.memory:
            self.memory[index] = _invoke(machine, closure)
        return self.memory[index]

    def run_or_capture(self, machine: Any, closure: Any, arguments: Any, index: int, *sizes: Any) -> Any:
        key = (index, *(int(n) for size in sizes for n in size))
        if key not in self.results:
            self.session.captured = self.kernels[key] = []
            self.results[key] = _invoke(machine, closure, *arguments)
            self.session.captured = None
            _check(self.kernels[key])
            return self.results[key]
        for kernel in self.kernels[key]:
            kernel.again()
            self.replayed += 1
        return self.results[key]


def _invoke(*arguments: Any) -> Any:
    return tvm.get_global_func("vm.builtin.invoke_closure")(*arguments)


def _check(kernels: list[Captured]) -> None:
    """Whether a graph holds on to memory that it may lose: pages of TVM's pool, which others can have any time."""
    pages = _free_pages()
    for kernel in kernels:
        if kernel.addresses & pages:
            raise EmulationError(
                f"{kernel.name} is captured with memory of TVM's pool, which a graph does not keep"
            )


def _free_pages() -> set[int]:
    """The pages of this thread's pool that nobody has: the next ones that are asked for."""
    library = ctypes.CDLL(runtime_library())
    library.TVMBackendAllocWorkspace.restype = ctypes.c_void_p
    library.TVMBackendAllocWorkspace.argtypes = [
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_uint64,
        ctypes.c_int,
        ctypes.c_int,
    ]
    library.TVMBackendFreeWorkspace.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    pages = [library.TVMBackendAllocWorkspace(CPU.type, 0, 1, 1, 8) for _ in range(MOST_PAGES)]
    for page in reversed(pages):
        library.TVMBackendFreeWorkspace(CPU.type, 0, page)
    return set(pages)


@contextmanager
def replayed_graphs(session: Session) -> Iterator[Graphs]:
    """Stand-ins for one virtual machine, which is to be made inside."""
    made = Graphs(session)
    builtins = {"get_cached_alloc": made.cached_alloc, "run_or_capture": made.run_or_capture}
    with global_functions({f"vm.builtin.cuda_graph.{name}": call for name, call in builtins.items()}):
        yield made
