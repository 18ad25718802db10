"""What measurements hold for, and how fast the device's clock runs."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

from .candidate import Device
from .records import Conditions


def conditions_of(device: Device) -> Conditions:
    """Processor, threads and versions."""
    words = device.target.split()[1:]
    cpu = " ".join(word for word in words if not word.startswith("-num-cores"))
    return Conditions(
        cpu=cpu,
        threads=device.threads,
        package=metadata.version("tvm-fastconv"),
        tvm=metadata.version("apache-tvm"),
    )


def processor_name() -> str:
    """What this machine calls its processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
