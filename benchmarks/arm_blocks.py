"""What ARM's CPUs execute for one inference, counted by an emulator: blocks of instructions, and how often each ran.

Needs ziglang, and a ``qemu-aarch64`` that takes plugins (Debian: qemu-user).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tvm_fastconv as fc

SOURCES = Path(__file__).with_name("arm")
QEMU = "qemu-aarch64"
TRIPLE = "aarch64-linux-musl"


@dataclass(frozen=True)
class Block:
    """Instructions that run one after the other.

    Attributes
    ----------
    count : int
        How often.
    code : tuple of str
        Each in hexadecimal.
    """

    count: int
    code: tuple[str, ...]

    @property
    def instructions(self) -> int:
        """Executed."""
        return self.count * len(self.code)


def executed_blocks(
    model: nn.Module, x: torch.Tensor, cpu: str, qemu_cpu: str, **options: Any
) -> list[Block]:
    """Compile a network of one input and one output for ``cpu`` (LLVM's name, or ""), and run one inference.

    Its answer is compared with PyTorch's, to 1e-4 of the largest output.

    Parameters
    ----------
    options
        Of `deploy`.

    Raises
    ------
    CalledProcessError
        The answer is wrong, or a tool fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        kit = Path(folder, "kit")
        target = f"{TRIPLE} -mcpu={cpu}" if cpu else TRIPLE
        fc.deploy(model, x, folder=kit, name="net", target=target, **options)
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", TRIPLE, "-O2", "-static", f"-I{kit}"]
        main = SOURCES / "count_main.c"
        subprocess.run([*zig, str(main), "libnet.a", "-lm", "-o", "count"], cwd=kit, check=True)
        return run_counted(["./count"], qemu_cpu, kit)


def run_counted(command: Sequence[str], qemu_cpu: str, folder: Path, *options: str) -> list[Block]:
    """Run a program for ARM in ``folder``: the blocks that it executes between its first two calls of getppid.

    Parameters
    ----------
    options
        More of qemu's.

    Raises
    ------
    CalledProcessError
        The program fails.
    """
    with tempfile.TemporaryDirectory() as own:
        plugin, out = Path(own, "count_blocks.so"), Path(own, "blocks.txt")
        compiler = ["cc", "-O2", "-shared", "-fPIC", "-o", str(plugin), str(SOURCES / "count_blocks.c")]
        subprocess.run(compiler, check=True)
        emulator = [QEMU, "-cpu", qemu_cpu, *options, "-plugin", f"{plugin},out={out}"]
        subprocess.run([*emulator, *command], cwd=folder, check=True)
        return joined(out.read_text().splitlines())


def joined(lines: Iterable[str]) -> list[Block]:
    """The blocks of the plugin's ``lines``; qemu ends one at each end of a page, even in the middle of a loop."""
    counts: Counter[tuple[int, tuple[str, ...]]] = Counter()
    for count, address, *code in map(str.split, lines):
        counts[int(address, 16), tuple(code)] += int(count)
    starts = dict(counts.keys())
    blocks: list[Block] = []
    for address, code in sorted(counts):
        times = counts[address, code]
        while not _is_branch(code[-1]) and (rest := starts.get(address + 4 * len(code))):
            counts[address + 4 * len(code), rest] -= times
            code += rest
        blocks.append(Block(times, code))
    return [block for block in blocks if block.count]


def _is_branch(word: str) -> bool:
    """Whether an instruction is one of A64's branches, exceptions and system instructions (bits 28 to 26)."""
    return int(word, 16) >> 26 & 7 == 5


def obstacle() -> str | None:
    """Why nothing can be counted here."""
    return None if shutil.which(QEMU) else f"needs {QEMU} (Debian: qemu-user)"
