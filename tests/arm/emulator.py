"""ARM's CPUs that code is compiled for, and the emulators that execute it."""

import shutil

CPUS = {
    "generic": ("aarch64-linux-musl", "qemu-aarch64", ["cortex-a53"]),
    "cortex-a53": ("aarch64-linux-musl -mcpu=cortex-a53", "qemu-aarch64", ["cortex-a53"]),
    "cortex-a76": ("aarch64-linux-musl -mcpu=cortex-a76", "qemu-aarch64", ["cortex-a76"]),
    "neoverse-v1": (
        "aarch64-linux-musl -mcpu=neoverse-v1",
        "qemu-aarch64",
        [f"max,sve-default-vector-length={size}" for size in (16, 32, 64)],  # bytes
    ),
    "armv7": ("armv7l-linux-musleabihf", "qemu-arm", ["cortex-a7"]),
}
"""The target, of static programs, the emulator, and those of its CPUs that their code runs on."""


def target_of(cpu: str) -> str:
    """Of static programs for one of `CPUS`."""
    return CPUS[cpu][0]


def emulators(cpu: str) -> list[list[str]]:
    """What runs them: one command for each CPU of the emulator."""
    _, name, processors = CPUS[cpu]
    return [[shutil.which(name) or name, "-cpu", each] for each in processors]
