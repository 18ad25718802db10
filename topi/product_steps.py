"""The terms of a matrix product's sums, in the steps that a GPU takes through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm
    from typing_extensions import Self


@dataclass(frozen=True)
class Steps:
    """The terms of a sum: ``taps`` times ``depth``, in steps that hold terms of one tap, or of all in one row.

    Attributes
    ----------
    taps, depth : int
        Taps, and the terms of each.
    tile_k : int
        Terms of a step.
    """

    taps: int
    depth: int
    tile_k: int

    @classmethod
    def of(cls, taps: int, depth: int, tile_k: int) -> Self:
        """Steps of one tap each where ``tile_k`` divides its terms; else all terms in one row, and the last padded."""
        return cls(taps, depth, tile_k) if depth % tile_k == 0 else cls(1, taps * depth, tile_k)

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
