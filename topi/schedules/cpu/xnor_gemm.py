"""Schedule of `topi.xnor_gemm`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tvm.s_tir.schedule import LoopRV

from ...machine import Machine
from ..registry import Site, Template, register
from .conv2d import PLAIN_SUMS, schedule_tile
from .pack_matrix import PackKnobs, schedule_pack_columns, schedule_pack_rows
from .tile import LoopsOnly, TileKnobs, TileLoops

if TYPE_CHECKING:
    from typing_extensions import Self


class SignProduct(Protocol):
    """A problem of `xnor_gemm`."""

    inner: int
    columns: int

    @property
    def loops(self) -> TileLoops:
        """As the register tile sees it."""


@dataclass(frozen=True, kw_only=True)
class XnorGemmKnobs(TileKnobs):
    """Knobs of the product: a register tile, a task for every panel, and how the right side is packed (`PackKnobs`)."""

    pack_rows: int
    pack_panels: int

    @property
    def packing(self) -> PackKnobs:
        """Those of the right side."""
        return PackKnobs(rows=self.pack_rows, panels=self.pack_panels)

    @classmethod
    def tiles(cls, problem: SignProduct, machine: Machine) -> Iterator[Self]:
        """Every tile that fits the registers; a vector is no longer than the columns, which overlap at the end."""
        loops, whole = problem.loops, min(machine.lanes, 1 << problem.columns.bit_length() - 1)
        if problem.columns <= machine.lanes:
            loops = dataclasses.replace(loops, out_channels=whole)
        for tile in TileKnobs.tiles(LoopsOnly(loops), machine):
            packing = PackKnobs.default(problem, machine)
            yield cls(
                lanes=tile.lanes,
                vectors=tile.vectors,
                tile_h=tile.tile_h,
                tile_w=tile.tile_w,
                strip=1,
                chunks=-(-problem.columns // tile.panel),
                pack_rows=packing.rows,
                pack_panels=packing.panels,
            )

    @classmethod
    def space(cls, problem: SignProduct, machine: Machine) -> Iterator[Self]:
        """Every tile that fits the registers, with every way of packing."""
        for tile in cls.tiles(problem, machine):
            for packing in PackKnobs.space(problem, machine):
                yield dataclasses.replace(tile, pack_rows=packing.rows, pack_panels=packing.panels)

    def cycles(self, problem: SignProduct, machine: Machine) -> float:
        """Of the product, and of packing the right side."""
        return machine.popcount_cost * super().cycles(problem, machine) + self.packing.cycles(
            problem, machine
        )


def _schedule_xnor_gemm(site: Site) -> LoopRV:
    """Pack both, one after the other, then multiply.

    A panel of the right side stays in L2 while all rows of the left pass by.
    """
    schedule_pack_rows(site.sch, site.stages["pack_rows"], site.stages)
    packing = site.knobs(XnorGemmKnobs).packing
    schedule_pack_columns(site.sch, site.stages["pack_columns"], site.stages, packing)
    return schedule_tile(site, PLAIN_SUMS, XnorGemmKnobs)


register("llvm", ["xnor_gemm"], Template(_schedule_xnor_gemm))
