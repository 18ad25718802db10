"""The terms of a matrix product's sums, in the steps that a GPU takes through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm
    from typing_extensions import Self


NEIGHBOURS = 4
"""Terms of a tap whose place is worked out once, and which one load brings."""

MOST_WASTE = 1.25
"""Terms of lines over those of all taps in one row, at most."""


@dataclass(frozen=True)
class Steps:
    """The terms of a sum: ``taps`` times ``depth``, in steps that hold terms of one tap, or of all in one row.

    Attributes
    ----------
    taps, depth : int
        Taps, and the terms of each.
    tile_k : int
        Terms of a step.
    in_lines : bool
        Whether what counts as a tap is a line of taps side by side, over one channel: (channel, kernel row).
    """

    taps: int
    depth: int
    tile_k: int
    in_lines: bool = False

    @classmethod
    def of(cls, taps: int, depth: int, tile_k: int, across: int = 1) -> Self:
        """Steps of one tap each where ``tile_k`` divides its terms; else all terms in one row, and the last padded.

        Of few channels, a step holds taps of one line, of which there are ``across``, where that pads little: then
        whatever makes a place depends on the step alone, or on the term.
        """
        if depth % tile_k == 0:
            return cls(taps, depth, tile_k)
        row = cls(1, taps * depth, tile_k)
        lines = cls(taps // across * depth, across, tile_k, in_lines=True)
        few = across > 1 and depth % NEIGHBOURS != 0
        return lines if few and lines.count <= MOST_WASTE * row.count else row

    @property
    def per_tap(self) -> int:
        """Steps of one tap."""
        return -(-self.depth // self.tile_k)

    @property
    def count(self) -> int:
        """All steps."""
        return self.taps * self.per_tap

    @property
    def is_padded(self) -> bool:
        """Whether the last step has terms that do not exist."""
        return self.depth % self.tile_k != 0

    def place(self, step: tvm.ir.Expr, term: tvm.ir.Expr) -> tuple[tvm.ir.Expr, tvm.ir.Expr]:
        """(tap, term of the tap)"""
        return step // self.per_tap, step % self.per_tap * self.tile_k + term
