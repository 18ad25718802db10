"""What the schedules know of the processor: vector lanes, registers, caches."""

from dataclasses import dataclass

import tvm
from tvm.target import codegen


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The few numbers that the default knobs are derived from.

    Attributes
    ----------
    lanes : int
        float32 values per vector register.
    registers : int
        Architectural vector registers.
    l1_bytes, l2_bytes : int
        Data cache sizes per core. Fixed at what current server and laptop cores share at least, so that the same
        target gives the same code wherever it is compiled.
    """

    lanes: int
    registers: int
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 1024 * 1024

    @classmethod
    def of(cls, target: tvm.target.Target) -> "Machine":
        """Describe the processor that ``target`` compiles for."""
        with target:
            if codegen.target_has_features("avx512f", target):
                return cls(lanes=16, registers=32)
            if codegen.target_has_features("avx2", target):
                return cls(lanes=8, registers=16)
            if codegen.target_has_features("neon", target):
                return cls(lanes=4, registers=32)
        return cls(lanes=4, registers=16)
