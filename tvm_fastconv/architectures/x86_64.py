"""AMD's and Intel's 64-bit CPUs; what one has is asked through CPUID."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from .architecture import Architecture

# Indices that glibc's <sys/platform/x86.h> gives to CPUID leaves, and the order of the registers in its answer.
_LEAF_1, _LEAF_7, _LEAF_80000001, _LEAF_7_1 = 0, 1, 2, 6
_EAX, _EBX, _ECX, _EDX = range(4)


@dataclass(frozen=True)
class _Bit:
    """Where CPUID reports a feature, and its name in ``/proc/cpuinfo``."""

    leaf: int
    register: int
    bit: int
    flag: str


_FEATURES = {
    "avx": _Bit(_LEAF_1, _ECX, 28, "avx"),
    "avx2": _Bit(_LEAF_7, _EBX, 5, "avx2"),
    "avx512bf16": _Bit(_LEAF_7_1, _EAX, 5, "avx512_bf16"),
    "avx512bitalg": _Bit(_LEAF_7, _ECX, 12, "avx512_bitalg"),
    "avx512bw": _Bit(_LEAF_7, _EBX, 30, "avx512bw"),
    "avx512cd": _Bit(_LEAF_7, _EBX, 28, "avx512cd"),
    "avx512dq": _Bit(_LEAF_7, _EBX, 17, "avx512dq"),
    "avx512f": _Bit(_LEAF_7, _EBX, 16, "avx512f"),
    "avx512fp16": _Bit(_LEAF_7, _EDX, 23, "avx512_fp16"),
    "avx512ifma": _Bit(_LEAF_7, _EBX, 21, "avx512ifma"),
    "avx512vbmi": _Bit(_LEAF_7, _ECX, 1, "avx512vbmi"),
    "avx512vbmi2": _Bit(_LEAF_7, _ECX, 6, "avx512_vbmi2"),
    "avx512vl": _Bit(_LEAF_7, _EBX, 31, "avx512vl"),
    "avx512vnni": _Bit(_LEAF_7, _ECX, 11, "avx512_vnni"),
    "avx512vpopcntdq": _Bit(_LEAF_7, _ECX, 14, "avx512_vpopcntdq"),
    "avxvnni": _Bit(_LEAF_7_1, _EAX, 4, "avx_vnni"),
    "bmi": _Bit(_LEAF_7, _EBX, 3, "bmi1"),
    "bmi2": _Bit(_LEAF_7, _EBX, 8, "bmi2"),
    "f16c": _Bit(_LEAF_1, _ECX, 29, "f16c"),
    "fma": _Bit(_LEAF_1, _ECX, 12, "fma"),
    "fma4": _Bit(_LEAF_80000001, _ECX, 16, "fma4"),
    "gfni": _Bit(_LEAF_7, _ECX, 8, "gfni"),
    "lzcnt": _Bit(_LEAF_80000001, _ECX, 5, "abm"),
    "movbe": _Bit(_LEAF_1, _ECX, 22, "movbe"),
    "popcnt": _Bit(_LEAF_1, _ECX, 23, "popcnt"),
    "sse3": _Bit(_LEAF_1, _ECX, 0, "pni"),
    "sse4.1": _Bit(_LEAF_1, _ECX, 19, "sse4_1"),
    "sse4.2": _Bit(_LEAF_1, _ECX, 20, "sse4_2"),
    "sse4a": _Bit(_LEAF_80000001, _ECX, 6, "sse4a"),
    "ssse3": _Bit(_LEAF_1, _ECX, 9, "ssse3"),
    "tbm": _Bit(_LEAF_80000001, _ECX, 21, "tbm"),
    "xop": _Bit(_LEAF_80000001, _ECX, 11, "xop"),
}


def usable_features() -> frozenset[str] | None:
    """The features that this process can use; ``None`` where the C library is older than glibc 2.33.

    That library also knows whether the operating system saves the registers; under an emulator ``/proc/cpuinfo``
    describes the wrong CPU.
    """
    try:
        leaf_of = ctypes.CDLL(None)["__x86_get_cpuid_feature_leaf"]
    except (AttributeError, OSError):
        return None
    leaf_of.argtypes, leaf_of.restype = [ctypes.c_uint], ctypes.POINTER(ctypes.c_uint * 8)
    # Words 0-3 are what CPUID answered, words 4-7 the part of it that is usable.
    usable = {leaf: leaf_of(leaf).contents[4:8] for leaf in {where.leaf for where in _FEATURES.values()}}
    return frozenset(
        name for name, where in _FEATURES.items() if usable[where.leaf][where.register] >> where.bit & 1
    )


X86_64 = Architecture(
    name="x86_64",
    elf_machine=62,
    features={name: where.flag for name, where in _FEATURES.items()},
    probe=usable_features,
    # Extensions of the newest CPUs.
    unchecked=("avx10.1", "avx10.2", "egpr", "ndd", "nf", "ccmp", "ppx", "push2pop2", "zu"),
    # With AVX-512, LLVM's vectoriser would stay at 256 bits.
    unwanted={"prefer-256-bit": "avx512f"},
    needed=("64bit",),
)
