"""Machine code of several GPU architectures, and what its kernels take, as NVIDIA's assembler reports it."""

import re
from dataclasses import dataclass

MAGIC = b"\x50\xed\x55\xba"
"""What a fat binary begins with."""


@dataclass(frozen=True)
class KernelResources:
    """What one kernel takes in the machine code of one architecture.

    Parameters
    ----------
    name : str
        The kernel's symbol.
    arch : int
        The compute capability, 90 for sm_90.
    registers : int
        Of each thread.
    shared_bytes : int
        Shared memory of a block that is declared in the kernel; what a launch asks for comes on top.
    stack, spill_stores, spill_loads : int
        Bytes of each thread, those of functions that were not inlined included.
    """

    name: str
    arch: int
    registers: int
    shared_bytes: int
    stack: int
    spill_stores: int
    spill_loads: int


@dataclass(frozen=True)
class MachineCode:
    """Compiled CUDA source.

    Parameters
    ----------
    fatbin : bytes
        Machine code of every architecture asked for and PTX of the last, which a driver picks from.
    kernels : tuple of KernelResources
        Every kernel on every architecture.
    """

    fatbin: bytes
    kernels: tuple[KernelResources, ...]


_ENTRY = re.compile(r"Compiling entry function '([^']+)' for 'sm_(\d+)\w?'")


def read_report(said: str) -> tuple[KernelResources, ...]:
    """The kernels that ptxas describes in ``said``, its output with ``-v``, in its order."""
    _, *parts = _ENTRY.split(said)
    return tuple(
        _kernel(name, int(arch), body)
        for name, arch, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    )


def _kernel(name: str, arch: int, body: str) -> KernelResources:
    def total(unit: str) -> int:
        return sum(map(int, re.findall(rf"(\d+) {unit}", body)))

    return KernelResources(
        name,
        arch,
        registers=total("registers"),
        shared_bytes=total("bytes smem"),
        stack=total("bytes cumulative stack size"),
        spill_stores=total("bytes spill stores"),
        spill_loads=total("bytes spill loads"),
    )
