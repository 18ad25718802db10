"""The table of processors: what is known of each microarchitecture beside what `Machine` assumes.

``fastconv targets --measure`` measures a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import tvm
from tvm.target import codegen

from .arm_machines import ARM_ROWS, ARMV7_ROWS, CORTEX_A7, WINDOW_SHARE
from .gpu import gpu_of
from .machine import Machine
from .x86_machines import X86_ROWS


@dataclass(frozen=True)
class Level:
    """A width of vectors: the LLVM feature that has it, and a processor of which nothing else is known.

    ``rows`` are its known processors, by LLVM's names. ``dot_products`` and ``counts_words`` are the features by which
    a machine of this level has what its fields of these names say; ``""`` where no feature gives it. With
    ``whole_bytes``, the unsigned factor of dot products has all eight bits.
    """

    feature: str
    machine: Machine
    rows: Mapping[str, Machine]
    dot_products: str = ""
    counts_words: str = ""
    whole_bytes: str = ""


GENERIC = (
    Level(
        "avx512f",
        Machine(name="avx512", lanes=16, registers=32, fma_per_cycle=1.0, digit_cost=1.3),
        X86_ROWS,
        dot_products="avx512vnni",
        counts_words="avx512vpopcntdq",
    ),
    Level("avx2", Machine(name="avx2", lanes=8, registers=16), X86_ROWS),
    Level("v7", CORTEX_A7, ARMV7_ROWS),
    Level(
        "neon",
        Machine(
            name="neon", lanes=4, registers=32, dot_bits=7, byte_popcount_cost=3.0, window_share=WINDOW_SHARE
        ),
        ARM_ROWS,
        dot_products="dotprod",
        whole_bytes="i8mm",
    ),
    Level("sse2", Machine(name="sse", lanes=4, registers=16), X86_ROWS),
)
"""The widest first. Caches are those that current servers and laptops share at least, so that one target gives the same
code wherever it is compiled."""


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
        row = level.rows.get(str(target.attrs.get("mcpu", "")).replace("_", "-"), level.machine)
        # Features may be switched off: the row of a processor then says nothing.
        row = row if row.lanes == level.machine.lanes else level.machine
        return replace(
            row,
            dot_products=_has(level.dot_products, target),
            dot_bits=8 if _has(level.whole_bytes, target) else row.dot_bits,
            counts_words=_has(level.counts_words, target),
        )


def _has(feature: str, target: tvm.target.Target) -> bool:
    return bool(feature) and bool(codegen.target_has_features(feature, target))
