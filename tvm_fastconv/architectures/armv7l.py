"""ARM's 32-bit CPUs with NEON and hardware floats; ``/proc/cpuinfo`` says what one has, where the kernel has 32 bits.

TVM's runtime is not made for them: a network becomes a C library.
"""

from .architecture import Architecture

ARMV7L = Architecture(
    name="armv7l",
    elf_machine=40,
    features={
        "crc": "crc32",
        "dotprod": "asimddp",
        "hwdiv-arm": "idiva",
        "neon": "neon",
        "vfp4": "vfpv4",
    },
    abi="gnueabihf",
    toolchain="arm",
    float_abi="hard",
    least_cpu="cortex-a7",  # without its vfp4 and division, both are calls
    has_runtime=False,
    needed=("neon", "hwdiv-arm"),  # the second, or division is a function that no C library has
)
