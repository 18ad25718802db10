"""What an architecture of CPUs is called, and which of its features code may use: one row of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An architecture of CPUs that we compile for.

    Attributes
    ----------
    name : str
        In LLVM's triples, and as the operating system calls it.
    elf_machine : int
        ``e_machine`` of its ELF files.
    features : mapping
        Features that LLVM uses by itself, in its names, which a compiled file lists and the loader compares; each with
        its name in ``/proc/cpuinfo``. What only an intrinsic reaches is left out, so that a virtual machine that hides,
        say, ``pku`` still runs code compiled for its CPU model.
    probe : callable, optional
        Asks the CPU which of ``features`` this process can use; ``None`` where that cannot be asked, and
        ``/proc/cpuinfo`` says it.
    unchecked : tuple of str
        Features that LLVM uses by itself and that the loader cannot check: switched off.
    unwanted : mapping
        Preferences of LLVM's, no instructions, that are switched off where a feature is there: preference → feature.
    aliases : mapping
        Names of CPUs that LLVM knows by another: alias → LLVM's.
    abi : str
        The last part of its triples on Linux.
    toolchain : str
        What C compilers call it, if not by its name.
    float_abi : str
        How its functions take floats, where TVM has to be told.
    least_cpu : str
        LLVM's name of the CPU that is meant where a triple names none; ``""`` where LLVM's own choice will do.
    has_runtime : bool
        Whether there is TVM's runtime for it.
    needed : tuple of str
        LLVM's features of the CPUs that are compiled for, of those that it lists for this architecture.
    """

    name: str
    elf_machine: int
    features: Mapping[str, str]
    probe: Callable[[], frozenset[str] | None] = lambda: None
    unchecked: tuple[str, ...] = ()
    unwanted: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    abi: str = "gnu"
    toolchain: str = ""
    float_abi: str = ""
    least_cpu: str = ""
    has_runtime: bool = True
    needed: tuple[str, ...] = ()
