"""The table of processors: what is known of each microarchitecture beside what `Machine` assumes.

Widths, pipes, latencies and caches are those of the vendors' optimisation manuals (AMD 56665, 57647 and 58455, Intel
355308) and of the tables of A. Fog (Instruction tables, 2025) and uops.info. What the loops of our operators cost was
measured on a Zen 4 alone, and is assumed of the others; ``fastconv targets --measure`` measures the rest of a row.
"""

from dataclasses import dataclass, replace

import tvm
from tvm.target import codegen

from .gpu import gpu_of
from .machine import Machine

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True)
class Level:
    """A width of vectors: the LLVM feature that has it, and a processor of which nothing else is known.

    ``dot_products`` and ``counts_words`` are the features with which a machine of this level has what its fields of
    these names say; ``""`` where no feature gives it.
    """

    feature: str
    machine: Machine
    dot_products: str = ""
    counts_words: str = ""


GENERIC = (
    Level(
        "avx512f",
        Machine(name="avx512", lanes=16, registers=32, fma_per_cycle=1.0, digit_cost=1.3),
        dot_products="avx512vnni",
        counts_words="avx512vpopcntdq",
    ),
    Level("avx2", Machine(name="avx2", lanes=8, registers=16)),
    Level("neon", Machine(name="neon", lanes=4, registers=32)),
    Level("sse2", Machine(name="sse", lanes=4, registers=16)),
)
"""The widest first. Caches are those that current servers and laptops share at least, so that one target gives the same
code wherever it is compiled."""

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

ROWS = {
    "znver2": _ZEN_2, "znver3": _ZEN_3, "znver4": _ZEN_4, "znver5": _ZEN_5, "haswell": _HASWELL,
    "broadwell": _HASWELL, "skylake": _SKYLAKE, "skylake-avx512": _SKYLAKE_SERVER, "cascadelake": _CASCADE_LAKE,
    "cooperlake": _CASCADE_LAKE, "icelake-server": _ICE_LAKE, "sapphirerapids": _SAPPHIRE_RAPIDS,
    "emeraldrapids": _SAPPHIRE_RAPIDS, "graniterapids": _SAPPHIRE_RAPIDS,
}  # fmt: skip
"""LLVM's name of a processor → its row."""


def machine_of(target: tvm.target.Target) -> Machine:
    """The row of the processor that ``target`` names, else that of its vector instructions.

    Raises
    ------
    ValueError
        We know no processor of that kind, none with its vector instructions, or no GPU of its architecture.
    """
    kind = str(target.kind.name)
    if kind == "cuda":
        return gpu_of(target)
    if kind != "llvm":
        raise ValueError(f"no processor of kind {kind!r} is known; allowed: llvm, cuda")
    with target:
        level = next((level for level in GENERIC if codegen.target_has_features(level.feature, target)), None)
        if level is None:
            raise ValueError(f"no processor is known that has the vector instructions of {target}")
        row = ROWS.get(str(target.attrs.get("mcpu", "")).replace("_", "-"), level.machine)
        # Features may be switched off: the row of a processor then says nothing.
        return replace(
            row if row.lanes == level.machine.lanes else level.machine,
            dot_products=_has(level.dot_products, target),
            counts_words=_has(level.counts_words, target),
        )


def _has(feature: str, target: tvm.target.Target) -> bool:
    return bool(feature) and bool(codegen.target_has_features(feature, target))
