"""What measurements hold for."""

from __future__ import annotations

import tvm_fastconv
from tvm_fastconv.runtime.tvm_runtime import installed_version

from .candidate import Device
from .records import Conditions


def conditions_of(device: Device) -> Conditions:
    """Processor, threads and versions."""
    return Conditions(
        cpu=device.machine.name if device.on_gpu else _cpu(device.target),
        threads=device.threads,
        package=tvm_fastconv.__version__,
        tvm=installed_version("apache-tvm") or "unknown",
    )


def _cpu(target: str) -> str:
    triple, *words = target.split()
    return " ".join(word for word in words if not word.startswith("-num-cores")) or triple
