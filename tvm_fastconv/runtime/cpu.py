"""What the CPU of this process can execute, in LLVM's names, without TVM's compiler.

The loader compares this with what a file needs, because code with an instruction that the CPU lacks dies with SIGILL.
The tables hold the features whose instructions LLVM emits on its own; those that only an intrinsic reaches are left
out, so that a virtual machine that hides, say, ``pku`` still runs code compiled for its CPU model.
"""

import ctypes
import platform
from collections.abc import Iterable
from dataclasses import dataclass

# Indices that glibc's <sys/platform/x86.h> gives to CPUID leaves, and the order of the registers in its answer.
_LEAF_1, _LEAF_7, _LEAF_80000001, _LEAF_7_1 = 0, 1, 2, 6
_EAX, _EBX, _ECX, _EDX = range(4)


@dataclass(frozen=True)
class _X86:
    """Where CPUID reports a feature, and its name in ``/proc/cpuinfo``."""

    leaf: int
    register: int
    bit: int
    flag: str


_X86_64 = {
    "avx": _X86(_LEAF_1, _ECX, 28, "avx"),
    "avx2": _X86(_LEAF_7, _EBX, 5, "avx2"),
    "avx512bf16": _X86(_LEAF_7_1, _EAX, 5, "avx512_bf16"),
    "avx512bitalg": _X86(_LEAF_7, _ECX, 12, "avx512_bitalg"),
    "avx512bw": _X86(_LEAF_7, _EBX, 30, "avx512bw"),
    "avx512cd": _X86(_LEAF_7, _EBX, 28, "avx512cd"),
    "avx512dq": _X86(_LEAF_7, _EBX, 17, "avx512dq"),
    "avx512f": _X86(_LEAF_7, _EBX, 16, "avx512f"),
    "avx512fp16": _X86(_LEAF_7, _EDX, 23, "avx512_fp16"),
    "avx512ifma": _X86(_LEAF_7, _EBX, 21, "avx512ifma"),
    "avx512vbmi": _X86(_LEAF_7, _ECX, 1, "avx512vbmi"),
    "avx512vbmi2": _X86(_LEAF_7, _ECX, 6, "avx512_vbmi2"),
    "avx512vl": _X86(_LEAF_7, _EBX, 31, "avx512vl"),
    "avx512vnni": _X86(_LEAF_7, _ECX, 11, "avx512_vnni"),
    "avx512vpopcntdq": _X86(_LEAF_7, _ECX, 14, "avx512_vpopcntdq"),
    "avxvnni": _X86(_LEAF_7_1, _EAX, 4, "avx_vnni"),
    "bmi": _X86(_LEAF_7, _EBX, 3, "bmi1"),
    "bmi2": _X86(_LEAF_7, _EBX, 8, "bmi2"),
    "f16c": _X86(_LEAF_1, _ECX, 29, "f16c"),
    "fma": _X86(_LEAF_1, _ECX, 12, "fma"),
    "fma4": _X86(_LEAF_80000001, _ECX, 16, "fma4"),
    "gfni": _X86(_LEAF_7, _ECX, 8, "gfni"),
    "lzcnt": _X86(_LEAF_80000001, _ECX, 5, "abm"),
    "movbe": _X86(_LEAF_1, _ECX, 22, "movbe"),
    "popcnt": _X86(_LEAF_1, _ECX, 23, "popcnt"),
    "sse3": _X86(_LEAF_1, _ECX, 0, "pni"),
    "sse4.1": _X86(_LEAF_1, _ECX, 19, "sse4_1"),
    "sse4.2": _X86(_LEAF_1, _ECX, 20, "sse4_2"),
    "sse4a": _X86(_LEAF_80000001, _ECX, 6, "sse4a"),
    "ssse3": _X86(_LEAF_1, _ECX, 9, "ssse3"),
    "tbm": _X86(_LEAF_80000001, _ECX, 21, "tbm"),
    "xop": _X86(_LEAF_80000001, _ECX, 11, "xop"),
}

_AARCH64 = {
    "bf16": "bf16",
    "crc": "crc32",
    "dotprod": "asimddp",
    "fullfp16": "asimdhp",
    "i8mm": "i8mm",
    "lse": "atomics",
    "neon": "asimd",
    "rdm": "asimdrdm",
    "sve": "sve",
    "sve2": "sve2",
}

CHECKED_FEATURES: dict[str, frozenset[str]] = {"x86_64": frozenset(_X86_64), "aarch64": frozenset(_AARCH64)}
"""Per architecture, the LLVM features that a compiled file lists and the loader compares."""


def host_features() -> frozenset[str]:
    """Return the checked LLVM features that this process can use.

    CPUID is asked first, through glibc 2.33 or newer, which also knows whether the operating system saves the
    registers; under an emulator ``/proc/cpuinfo`` describes the wrong CPU. Older C libraries leave only that file.
    """
    if platform.machine() != "x86_64":
        flags = _cpuinfo_flags()
        return frozenset(name for name, flag in _AARCH64.items() if flag in flags)
    try:
        leaf_of = ctypes.CDLL(None)["__x86_get_cpuid_feature_leaf"]
    except (AttributeError, OSError):
        flags = _cpuinfo_flags()
        return frozenset(name for name, where in _X86_64.items() if where.flag in flags)
    leaf_of.argtypes, leaf_of.restype = [ctypes.c_uint], ctypes.POINTER(ctypes.c_uint * 8)
    # Words 0-3 are what CPUID answered, words 4-7 the part of it that is usable.
    usable = {leaf: leaf_of(leaf).contents[4:8] for leaf in {where.leaf for where in _X86_64.values()}}
    return frozenset(
        name for name, where in _X86_64.items() if usable[where.leaf][where.register] >> where.bit & 1
    )


def missing_features(required: Iterable[str]) -> tuple[str, ...]:
    """Return those of ``required`` (LLVM names) that this CPU lacks or this version cannot check, in their order."""
    present = host_features()
    return tuple(name for name in required if name not in present)


def _cpuinfo_flags() -> frozenset[str]:
    """Return the flags of the first CPU in ``/proc/cpuinfo``, none where there is no such file."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in ("flags", "Features"):
                    return frozenset(value.split())
    except OSError:
        pass
    return frozenset()
