"""The inner loop of a kernel in NVIDIA's machine code, as ``cuobjdump -sass`` writes it, and what it is made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

ARITHMETIC = ("FFMA", "POPC", "BMMA", "HMMA")
"""What the inner loops of matrix products are there for: of floats, of bits, of bits and of TF32 on tensor cores."""

_LINE = re.compile(r"/\*(?P<at>[0-9a-f]+)\*/\s+(?:@!?U?P\w+\s+)?(?P<code>[A-Z][\w.]*)(?P<operands>[^;]*);")
_WIDE = re.compile(r"\.(64|128)\b")
_MEMORY = ("LDS", "LDG", "LD", "STS", "STG", "LDL", "STL", "LDC", "LDGSTS")


@dataclass(frozen=True)
class Instruction:
    """One line: its address, its name with all suffixes, and its operands."""

    at: int
    code: str
    operands: str

    @property
    def kind(self) -> str:
        """``FFMA``; ``LDS.128`` where it is of memory, ``LDS.32`` or less without a width; ``FFMA2`` does two."""
        name = self.code.split(".")[0]
        if name not in _MEMORY:
            return name
        wide = _WIDE.search(self.code)
        return f"{name}.{wide[1] if wide else 32}"


def read(lines: Sequence[str]) -> list[Instruction]:
    """The instructions of a kernel."""
    found = map(_LINE.search, lines)
    return [Instruction(int(m["at"], 16), m["code"], m["operands"]) for m in found if m is not None]


def loops(code: Sequence[Instruction]) -> list[list[Instruction]]:
    """The bodies of the loops, in order of where they begin, outer ones before those inside them."""
    spans = set()
    for each in code:
        target = re.search(r"0x([0-9a-f]+)", each.operands) if each.code.startswith("BRA") else None
        if target is not None and int(target[1], 16) < each.at:
            spans.add((int(target[1], 16), each.at))
    ordered = sorted(spans, key=lambda span: (span[0], -span[1]))
    return [[each for each in code if first <= each.at <= last] for first, last in ordered]


def hottest(code: Sequence[Instruction]) -> tuple[list[Instruction], bool]:
    """Of the loops without arithmetic in a loop inside them the one with the most; else the kernel, and False."""
    computing = [body for body in loops(code) if _arithmetic(body)]
    inner = [body for body in computing if not any(_is_inside(other, body) for other in computing)]
    ends = [at for at, each in enumerate(code) if each.code == "EXIT"]
    return (max(inner, key=_arithmetic), True) if inner else (list(code[: max(ends, default=-1) + 1]), False)


def _arithmetic(body: Sequence[Instruction]) -> int:
    return sum(each.code.startswith(ARITHMETIC) for each in body)


def _is_inside(inner: Sequence[Instruction], outer: Sequence[Instruction]) -> bool:
    return inner is not outer and outer[0].at <= inner[0].at and inner[-1].at <= outer[-1].at


def mix(body: Sequence[Instruction]) -> dict[str, int]:
    """How often each kind of instruction of note stands in ``body``; ``FFMA.reuse`` are those of FFMA that reuse."""
    counts = Counter(each.kind for each in body)
    counts["FFMA.reuse"] = sum(each.kind == "FFMA" and ".reuse" in each.operands for each in body)
    noted = (*ARITHMETIC, "FFMA.reuse", "FFMA2", "FADD", "FMUL", "IMMA", "LDSM", "SHFL", "BAR", "CALL")
    return {
        kind: count
        for kind, count in sorted(counts.items())
        if count and (kind in noted or kind.partition(".")[0] in _MEMORY)
    }
