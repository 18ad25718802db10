"""Cycles of executed blocks by LLVM's models of ARM's cores (``llvm-mca``): without misses of caches and branches."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice

from .arm_blocks import Block

MODELS = {
    "cortex-a53": "cortex-a55", "cortex-a55": "cortex-a55", "cortex-a72": "cortex-a72", "cortex-a76": "neoverse-n1",
    "neoverse-n1": "neoverse-n1", "neoverse-v1": "neoverse-v1",
}  # fmt: skip
"""CPU → model. LLVM's of the A53 lets no load pass a multiply-add before it, and the A76 has that of the A57."""

HOTTEST = 80
"""Blocks that are modelled; those of the rest are counted at the same cycles an instruction."""

ITERATIONS = 100
_BRANCHES = re.compile(r"^(b|bl|br|blr|cbz|cbnz|tbz|tbnz|ret|b\.\w+|svc|mrs|msr|udf)\b")


def cycles(blocks: Iterable[Block], model: str) -> float:
    """Of all blocks."""
    counts: Counter[tuple[str, ...]] = Counter()
    for block in blocks:
        counts[block.code] += block.count
    hottest = sorted(counts, key=lambda code: counts[code] * len(code), reverse=True)[:HOTTEST]
    modelled = sum(counts[code] * block_cycles(code, model) for code in hottest)
    seen = sum(counts[code] * len(code) for code in hottest)
    return modelled * sum(count * len(code) for code, count in counts.items()) / seen


def vector_products(blocks: Sequence[Block]) -> int:
    """Multiply-adds of whole vectors of floats that were executed."""
    lines = iter(disassembled(tuple(word for block in blocks for word in block.code)))
    return sum(
        block.count * sum("fmla" in line and ".4s" in line for line in islice(lines, len(block.code)))
        for block in blocks
    )


@cache
def disassembled(code: tuple[str, ...]) -> tuple[str, ...]:
    """Lines of assembly."""
    octets = "\n".join(" ".join(f"0x{word[i : i + 2]}" for i in (6, 4, 2, 0)) for word in code)
    command = [tool("llvm-mc"), "--disassemble", "-triple=aarch64", "-mattr=+all"]
    done = subprocess.run(command, input=octets, capture_output=True, text=True, check=True)
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip() and ".text" not in line]
    if len(lines) != len(code):
        raise ValueError(f"{len(code)} instructions were disassembled to {len(lines)} lines")
    return tuple(lines)


def block_cycles(code: tuple[str, ...], model: str) -> float:
    """Of one run of a block among many."""
    return float(_modelled(code, model)["Total Cycles"]) / ITERATIONS


def block_throughput(code: tuple[str, ...], model: str) -> float:
    """Cycles of one run among many if no instruction waited for another."""
    return float(_modelled(code, model)["Block RThroughput"])


@cache
def _modelled(code: tuple[str, ...], model: str) -> dict[str, str]:
    """The summary of ``llvm-mca``."""
    lines = ["nop" if _BRANCHES.match(line) else line for line in disassembled(code)]
    command = [
        tool("llvm-mca"),
        "-mtriple=aarch64",
        f"-mcpu={model}",
        "-mattr=+all",
        f"-iterations={ITERATIONS}",
    ]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    return dict(re.findall(r"^(Total Cycles|Block RThroughput):\s+(\S+)$", done.stdout, re.MULTILINE))


@cache
def tool(name: str) -> str:
    """A tool of LLVM 19, the first with all models.

    Raises
    ------
    FileNotFoundError
        It is not installed.
    """
    found = shutil.which(f"{name}-19")
    if found is None:
        raise FileNotFoundError(f"needs {name}-19 (Debian: llvm-19)")
    return found


def most_executed(blocks: Sequence[Block], count: int = 5) -> list[Block]:
    """Those with the most instructions."""
    return sorted(blocks, key=lambda block: block.instructions, reverse=True)[:count]
