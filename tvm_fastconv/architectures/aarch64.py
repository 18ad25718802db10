"""ARM's 64-bit CPUs."""

from .architecture import Architecture

AARCH64 = Architecture(
    name="aarch64",
    elf_machine=183,
    features={
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
    },
)
