"""ARM's 64-bit CPUs; what one has is asked of the kernel through the auxiliary vector."""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass

from .architecture import Architecture

# Entries of the auxiliary vector, as <elf.h> numbers them.
_AT_HWCAP, _AT_HWCAP2 = 16, 26


@dataclass(frozen=True)
class _Bit:
    """Where Linux reports a feature (arch/arm64, "ARM64 ELF hwcaps"), and its name in ``/proc/cpuinfo``."""

    entry: int
    bit: int
    flag: str


_FEATURES = {
    "bf16": _Bit(_AT_HWCAP2, 14, "bf16"),
    "crc": _Bit(_AT_HWCAP, 7, "crc32"),
    "dotprod": _Bit(_AT_HWCAP, 20, "asimddp"),
    "fullfp16": _Bit(_AT_HWCAP, 10, "asimdhp"),
    "i8mm": _Bit(_AT_HWCAP2, 13, "i8mm"),
    "lse": _Bit(_AT_HWCAP, 8, "atomics"),
    "neon": _Bit(_AT_HWCAP, 1, "asimd"),
    "rdm": _Bit(_AT_HWCAP, 12, "asimdrdm"),
    "sve": _Bit(_AT_HWCAP, 22, "sve"),
    "sve2": _Bit(_AT_HWCAP2, 1, "sve2"),
}


def usable_features() -> frozenset[str] | None:
    """The features that this process can use; ``None`` where the C library or the system does not tell.

    Under an emulator ``/proc/cpuinfo`` describes the wrong CPU.
    """
    if platform.system() != "Linux":
        return None
    try:
        value_of = ctypes.CDLL(None)["getauxval"]
    except (AttributeError, OSError):
        return None
    value_of.argtypes, value_of.restype = [ctypes.c_ulong], ctypes.c_ulong
    values = {entry: value_of(entry) for entry in (_AT_HWCAP, _AT_HWCAP2)}
    return frozenset(name for name, where in _FEATURES.items() if values[where.entry] >> where.bit & 1)


AARCH64 = Architecture(
    name="aarch64",
    elf_machine=183,
    features={name: where.flag for name, where in _FEATURES.items()},
    probe=usable_features,
    aliases={"apple-m1": "apple-a14", "apple-m2": "apple-a15", "apple-m3": "apple-a16"},
)
