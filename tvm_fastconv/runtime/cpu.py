"""What the CPU of this process can execute, in LLVM's names, without TVM's compiler.

The loader compares this with what a file needs, because code with an instruction that the CPU lacks dies with SIGILL.
"""

import platform
from collections.abc import Iterable

from ..architectures import ARCHITECTURES


def host_features() -> frozenset[str]:
    """Return the checked LLVM features that this process can use: the CPU is asked first, then ``/proc/cpuinfo``."""
    here = ARCHITECTURES.get(platform.machine())
    if here is None:
        return frozenset()
    if (usable := here.probe()) is not None:
        return usable
    flags = _cpuinfo_flags()
    return frozenset(name for name, flag in here.features.items() if flag in flags)


def missing_features(required: Iterable[str]) -> tuple[str, ...]:
    """Return those of ``required`` (LLVM names) that this CPU lacks or this version cannot check, in their order."""
    present = host_features()
    return tuple(name for name in required if name not in present)


def processor_name() -> str:
    """Return what this machine calls its processor."""
    return _cpuinfo("model name", "Model") or platform.processor() or platform.machine()


def _cpuinfo_flags() -> frozenset[str]:
    """Return the flags of the first CPU in ``/proc/cpuinfo``, none where there is no such file."""
    return frozenset(_cpuinfo("flags", "Features").split())


def _cpuinfo(*keys: str) -> str:
    """What ``/proc/cpuinfo`` says under the first of ``keys`` that it has."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in keys:
                    return value.strip()
    except OSError:
        pass
    return ""
