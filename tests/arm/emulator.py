"""ARM's CPUs that code is compiled for, and the emulator that executes it."""

import shutil

QEMU = "qemu-aarch64"

CPUS = {
    "generic": ("", ["cortex-a53"]),
    "cortex-a53": (" -mcpu=cortex-a53", ["cortex-a53"]),
    "cortex-a76": (" -mcpu=cortex-a76", ["cortex-a76"]),
    "neoverse-v1": (
        " -mcpu=neoverse-v1",
        [f"max,sve-default-vector-length={size}" for size in (16, 32, 64)],  # bytes
    ),
}
"""Options of the target, and the CPUs of qemu that its code runs on."""


def target_of(cpu: str) -> str:
    """Of static programs for one of `CPUS`."""
    return f"aarch64-linux-musl{CPUS[cpu][0]}"


def emulators(cpu: str) -> list[list[str]]:
    """What runs them: one command for each CPU of qemu."""
    return [[shutil.which(QEMU) or QEMU, "-cpu", name] for name in CPUS[cpu][1]]
