"""ARM's and Apple's processors, as far as they differ from what `Machine` assumes.

Pipes, latencies and caches of ARM's cores are those of its software optimization guides (Cortex-A55 EPM128372, A72
UAN0016A, A76 PJDOC-466751330-7215, A78 102160, X1 PJDOC-466751330-14665, Neoverse N1 PJDOC-466751330-9707, V1
PJDOC-466751330-9685, V2 PJDOC-466751330-593177) and of the boards that are named; of an Apple M1, of D. Johnson
(dougallj.github.io/applecpu). Costs of popcounts are those of the inner loops in LLVM's models of the cores
(``llvm-mca``). Nothing was measured on ARM; ``fastconv targets --measure`` measures a row on the device.
"""

from dataclasses import replace

from .machine import KIB, MIB, Machine

# In order. A whole vector is one operation in a cycle. LLVM schedules far ahead there: with all 32 registers in sums
# and operands it spills.
_CORTEX_A53 = Machine(  # 512 KiB for four cores, memory of 2.5 GB/s at 1.2 GHz: Raspberry Pi 3
    name="cortex-a53", lanes=4, dot_bits=7, registers=26, fma_per_cycle=1.0, packs_inputs=True, load_cost=2.0,
    byte_popcount_cost=3.0, l2_bytes=512 * KIB, l3_bytes=512 * KIB, l2_bandwidth=8.0, l3_bandwidth=2.0,
    memory_bandwidth=2.0,
)  # fmt: skip
_CORTEX_A55 = Machine(
    name="cortex-a55", lanes=4, dot_bits=7, registers=26, fma_per_cycle=1.0, byte_popcount_cost=3.0, l2_bytes=128 * KIB,
    l3_bytes=1 * MIB, l2_bandwidth=8.0, l3_bandwidth=4.0, memory_bandwidth=3.0,
)  # fmt: skip
# Out of order.
_CORTEX_A72 = Machine(  # 1 MiB for four cores, memory of 4 GB/s at 1.5 GHz: Raspberry Pi 4
    name="cortex-a72", lanes=4, dot_bits=7, registers=32, fma_per_cycle=1.0, byte_popcount_cost=1.7, l2_bytes=1 * MIB,
    l3_bytes=1 * MIB, l2_bandwidth=16.0, l3_bandwidth=2.7, memory_bandwidth=2.7,
)  # fmt: skip
_CORTEX_A76 = Machine(  # 512 KiB, 2 MiB for four, memory of 10 GB/s at 2.4 GHz: Raspberry Pi 5
    name="cortex-a76", lanes=4, dot_bits=7, registers=32, byte_popcount_cost=3.3, l1_bytes=64 * KIB, l2_bytes=512 * KIB,
    l3_bytes=2 * MIB, l2_bandwidth=32.0, l3_bandwidth=12.0, memory_bandwidth=4.0,
)  # fmt: skip
_CORTEX_A78 = Machine(
    name="cortex-a78", lanes=4, dot_bits=7, registers=32, byte_popcount_cost=3.3, l2_bytes=512 * KIB, l3_bytes=4 * MIB,
    l2_bandwidth=32.0, l3_bandwidth=12.0, memory_bandwidth=5.0,
)  # fmt: skip
_CORTEX_X1 = Machine(
    name="cortex-x1", lanes=4, dot_bits=7, registers=32, fma_per_cycle=4.0, sums_in_flight=16, byte_popcount_cost=3.3,
    l1_bytes=64 * KIB, l2_bytes=1 * MIB, l3_bytes=4 * MIB, memory_bandwidth=5.0,
)  # fmt: skip
_NEOVERSE_N1 = Machine(
    name="neoverse-n1", lanes=4, dot_bits=7, registers=32, byte_popcount_cost=3.3, l1_bytes=64 * KIB, l2_bandwidth=32.0,
)  # fmt: skip
_NEOVERSE_V1 = Machine(
    name="neoverse-v1", lanes=4, dot_bits=7, registers=32, fma_per_cycle=4.0, sums_in_flight=16, byte_popcount_cost=3.3,
    l1_bytes=64 * KIB,
)  # fmt: skip
_NEOVERSE_V2 = Machine(
    name="neoverse-v2", lanes=4, dot_bits=7, registers=32, fma_per_cycle=4.0, sums_in_flight=16, byte_popcount_cost=3.3,
    l1_bytes=64 * KIB, l2_bytes=2 * MIB,
)  # fmt: skip
_APPLE_M1 = Machine(  # 12 MiB for four cores
    name="apple-m1", lanes=4, dot_bits=7, registers=32, fma_per_cycle=4.0, sums_in_flight=16, byte_popcount_cost=3.3,
    l1_bytes=128 * KIB, l2_bytes=3 * MIB, l3_bytes=8 * MIB, memory_bandwidth=18.0,
)  # fmt: skip

# In 32 bits: 16 registers of 128 bits; a whole vector takes two cycles on a Cortex-A7.
CORTEX_A7 = Machine(  # 512 KiB for four cores, memory of 1.5 GB/s at 0.9 GHz: Raspberry Pi 2
    name="cortex-a7", lanes=4, registers=14, fma_per_cycle=0.5, byte_popcount_cost=1.5, l2_bytes=512 * KIB,
    l3_bytes=512 * KIB, l2_bandwidth=8.0, l3_bandwidth=1.7, memory_bandwidth=1.7,
)  # fmt: skip
_CORTEX_A53_32 = replace(_CORTEX_A53, name="cortex-a53-32", registers=14, packs_inputs=False)
_CORTEX_A72_32 = replace(_CORTEX_A72, name="cortex-a72-32", registers=16)

ARMV7_ROWS = {"cortex-a7": CORTEX_A7, "cortex-a53": _CORTEX_A53_32, "cortex-a72": _CORTEX_A72_32}
"""Of 32 bits, likewise."""

_ROWS = {
    "cortex-a53": _CORTEX_A53, "cortex-a55": _CORTEX_A55, "cortex-a72": _CORTEX_A72, "cortex-a76": _CORTEX_A76,
    "cortex-a78": _CORTEX_A78, "cortex-x1": _CORTEX_X1, "neoverse-n1": _NEOVERSE_N1, "neoverse-v1": _NEOVERSE_V1,
    "neoverse-v2": _NEOVERSE_V2, "apple-a14": _APPLE_M1,
}  # fmt: skip

WINDOW_SHARE = 0.44
"""14 of 32 registers. Beside a quarter of them, MobileNetV2 takes 0.94 of the cycles on a Neoverse V1, 0.985 on an N1,
0.99 on a Cortex-A72 and 0.96 on an A53, by LLVM's models."""

ARM_ROWS = {name: replace(row, window_share=WINDOW_SHARE) for name, row in _ROWS.items()}
"""LLVM's name of a processor → its row."""
