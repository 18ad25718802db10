"""AMD's and Intel's processors, as far as they differ from what `Machine` assumes.

Widths, pipes, latencies and caches are those of the vendors' optimisation manuals (AMD 56665, 57647 and 58455, Intel
355308) and of the tables of A. Fog (Instruction tables, 2025) and uops.info. What the loops of our operators cost was
measured on a Zen 4 alone, and is assumed of the others.
"""

from .machine import KIB, MIB, Machine

_ZEN_2 = Machine(
    name="zen2", lanes=8, registers=16, sums_in_flight=10, l2_bytes=512 * KIB, l3_bytes=16 * MIB,
)  # fmt: skip
_ZEN_3 = Machine(name="zen3", lanes=8, registers=16, l2_bytes=512 * KIB, l3_bytes=32 * MIB)
_ZEN_4 = Machine(
    name="zen4", lanes=16, registers=32, fma_per_cycle=1.0, half_vector_cost=0.5, digit_cost=1.3,
)  # fmt: skip
_ZEN_5 = Machine(name="zen5", lanes=16, registers=32, digit_cost=1.3, l1_bytes=48 * KIB, l2_bandwidth=64.0)
_HASWELL = Machine(
    name="haswell", lanes=8, registers=16, sums_in_flight=10, l2_bytes=256 * KIB, l3_bytes=8 * MIB,
)  # fmt: skip
_SKYLAKE = Machine(name="skylake", lanes=8, registers=16, l2_bytes=256 * KIB, l3_bytes=8 * MIB)
_SKYLAKE_SERVER = Machine(name="skylake-avx512", lanes=16, registers=32, digit_cost=1.3)
_CASCADE_LAKE = Machine(name="cascadelake", lanes=16, registers=32, digit_cost=1.3)
_ICE_LAKE = Machine(
    name="icelake-server", lanes=16, registers=32, digit_cost=1.3, word_popcount_cost=3.0, l1_bytes=48 * KIB,
    l2_bytes=1280 * KIB,
)  # fmt: skip
_SAPPHIRE_RAPIDS = Machine(
    name="sapphirerapids", lanes=16, registers=32, digit_cost=1.3, word_popcount_cost=3.0, l1_bytes=48 * KIB,
    l2_bytes=2 * MIB,
)  # fmt: skip

X86_ROWS = {
    "znver2": _ZEN_2, "znver3": _ZEN_3, "znver4": _ZEN_4, "znver5": _ZEN_5, "haswell": _HASWELL,
    "broadwell": _HASWELL, "skylake": _SKYLAKE, "skylake-avx512": _SKYLAKE_SERVER, "cascadelake": _CASCADE_LAKE,
    "cooperlake": _CASCADE_LAKE, "icelake-server": _ICE_LAKE, "sapphirerapids": _SAPPHIRE_RAPIDS,
    "emeraldrapids": _SAPPHIRE_RAPIDS, "graniterapids": _SAPPHIRE_RAPIDS,
}  # fmt: skip
"""LLVM's name of a processor → its row."""
