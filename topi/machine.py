"""What the schedules know of the processor: vector lanes, registers, caches."""

from dataclasses import dataclass

import tvm
from tvm.target import codegen


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The few numbers that the default knobs are derived from.

    Attributes
    ----------
    kind : str
        Of target, in TVM's words: which templates there are.
    lanes : int
        float32 values per vector register.
    registers : int
        Architectural vector registers.
    half_vector_cost : float
        What an operation on half a vector costs, against one on a whole: half where the core splits whole ones.
    counts_words : bool
        Whether it has a popcount of 32-bit lanes, or only of bytes.
    dot_products : bool
        Whether a 32-bit lane can add four products of bytes at once.
    l1_bytes, l2_bytes : int
        Data cache sizes per core. Fixed at what current server and laptop cores share at least, so that the same
        target gives the same code wherever it is compiled.
    """

    lanes: int
    registers: int
    kind: str = "llvm"
    half_vector_cost: float = 1.0
    counts_words: bool = False
    dot_products: bool = False
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 1024 * 1024

    @property
    def popcount_cost(self) -> float:
        """What exclusive or, popcount and addition of a vector cost, against a multiply-add.

        Measured on Zen 4: 1100 and 350 GMAC/s of bits, against 59 and 52 of float32, with AVX-512 and with AVX2.
        """
        return 1.6 if self.counts_words else 4.8

    def vector_cost(self, lanes: int) -> float:
        """What an operation on ``lanes`` lanes costs, against one on a whole vector."""
        return self.half_vector_cost if 2 * lanes == self.lanes else 1.0

    @classmethod
    def of(cls, target: tvm.target.Target) -> "Machine":
        """Describe the processor that ``target`` compiles for."""
        with target:
            if codegen.target_has_features("avx512f", target):
                splits = target.attrs.get("mcpu") == "znver4"
                return cls(
                    lanes=16,
                    registers=32,
                    half_vector_cost=0.5 if splits else 1.0,
                    dot_products=codegen.target_has_features("avx512vnni", target),
                    counts_words=codegen.target_has_features("avx512vpopcntdq", target),
                )
            if codegen.target_has_features("avx2", target):
                return cls(lanes=8, registers=16)
            if codegen.target_has_features("neon", target):
                return cls(lanes=4, registers=32)
        return cls(lanes=4, registers=16)
