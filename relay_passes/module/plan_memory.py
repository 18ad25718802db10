"""Where buffers lie in one workspace: the largest first, each at the lowest place that is free while it lives.

Greedy by size, as in Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference (arXiv:2001.03288),
section 5.2: within a few percent of the largest sum of buffers that live at once, on the networks measured there.
"""

from collections.abc import Sequence
from typing import NamedTuple

ALIGNMENT = 64
"""Bytes; each buffer starts at a multiple of it."""


class Life(NamedTuple):
    """A buffer: its bytes, and the first and the last call that touch it."""

    size: int
    first: int
    last: int


def plan_memory(lives: Sequence[Life]) -> tuple[list[int], int]:
    """Return each buffer's offset, and the bytes of the workspace, a multiple of `ALIGNMENT`."""
    offsets = [0] * len(lives)
    placed: list[int] = []
    for this in sorted(range(len(lives)), key=lambda i: (-lives[i].size, lives[i].first)):
        life = lives[this]
        busy = sorted(
            (offsets[i], _end(offsets[i], lives[i]))
            for i in placed
            if lives[i].first <= life.last and life.first <= lives[i].last
        )
        for begin, end in busy:
            if offsets[this] + life.size <= begin:
                break
            offsets[this] = max(offsets[this], end)
        placed.append(this)
    return offsets, max((_end(offsets[i], lives[i]) for i in placed), default=0)


def _end(offset: int, life: Life) -> int:
    return offset + -(-life.size // ALIGNMENT) * ALIGNMENT
