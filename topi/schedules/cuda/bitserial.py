"""Bitserial convolutions: a tile of sums in shared memory, on tensor cores or by popcounts; epilogues read it there.

The tile is one call of a device function (`bitserial_source`), whose operands are small enough to come from L1 as each
thread needs them. What stands behind the sums is scheduled as any element-wise nest, under the same block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm import tirx
from tvm.backend.cuda.op import cuda_func_call
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ...bits import WORD_BITS
from ...gpu import WARP, Gpu
from ...knobs import KnobSet
from ..registry import Site, Template, register
from .ballot import by_ballot
from .bitserial_source import BitserialTile, tile_source
from .sum_tile import call_in_place, keep_in_shared, share_tile, tile_loops

if TYPE_CHECKING:
    from typing_extensions import Self

POPCOUNTS, TENSOR_CORES = 1, 2

TILE_BYTES = 48 * 1024
"""Shared memory of a block that needs no permission."""

FEWEST_WARPS = 4
"""Of a block that is chosen by estimate."""

PAD = 4
"""Behind each row of the tile, so that neighbouring rows begin in other banks."""

FILE, OTHER_REGISTERS = 65536, 64
"""Registers of a multiprocessor, and those of a thread beside its sums."""

ISSUED = 0.6
"""Part of the cycles in which an instruction is ready."""

START_CYCLES, KERNEL_CYCLES = 5000.0, 6000.0
"""From the first index to the last store of a block, and of a kernel beside its blocks. Fitted to 30 convolutions on an
H200, to 22 %."""


@dataclass(frozen=True, kw_only=True)
class BitserialGpuKnobs(KnobSet):
    """Knobs of the tile.

    Attributes
    ----------
    unit : int
        What multiplies: `POPCOUNTS` or `TENSOR_CORES`.
    panel : int
        Output channels of a block, and of a panel of weights.
    rows : int
        Pixels of a thread; on tensor cores, sixteens of pixels of a warp.
    warps : int
        Of a block.
    """

    unit: int
    panel: int
    rows: int
    warps: int

    @property
    def counts_weights(self) -> bool:
        """Whether the weights' own ones are counted: with differing bits, not with common ones."""
        return self.unit == POPCOUNTS

    @property
    def columns(self) -> int:
        """Output channels of a thread that counts differing bits."""
        return math.gcd(self.panel, 8)

    @property
    def threads(self) -> int:
        """Of a block."""
        return WARP * self.warps

    @property
    def pixels(self) -> int:
        """Of a block."""
        if self.unit == TENSOR_CORES:
            return 16 * self.rows * self.warps
        return self.rows * (self.threads // (self.panel // self.columns))

    @classmethod
    def space(cls, problem: Any, machine: Gpu) -> Iterator[Self]:
        """Every tile that fits shared memory, whose sums fit half of the registers."""
        loops = problem.loops
        units = (TENSOR_CORES, POPCOUNTS) if machine.arch >= 80 else (POPCOUNTS,)
        for unit in units:
            for panel in (64, 32, 16, 8, 4, 2, 1):
                for rows in (4, 2, 1):
                    for warps in (8, 4, 2, 1):
                        knobs = cls(unit=unit, panel=panel, rows=rows, warps=warps)
                        if knobs._is_legal(loops):
                            yield knobs

    def _is_legal(self, loops: Any) -> bool:
        if self.panel % loops.panel_multiple or (loops.groups > 1 and loops.out_channels % self.panel):
            return False
        if self.unit == TENSOR_CORES:
            # Where there are several digits or planes, each is summed in registers of its own first.
            most = 128 if loops.pixel_sums * loops.vector_sums == 1 else 32
            fits = self.panel % 16 == 0 and self.rows * self.panel // 2 <= most
        else:
            fits = self.threads % (self.panel // self.columns) == 0
        return fits and self.pixels * (self.panel + PAD) * 4 <= TILE_BYTES

    @classmethod
    def default(cls, problem: Any, machine: Gpu) -> Self | None:
        """Of equals, the first of the space; of blocks of four warps or more, since smaller ones were not measured."""
        known = (knobs for knobs in cls.space(problem, machine) if knobs.warps >= FEWEST_WARPS)
        return min(known, key=lambda knobs: knobs.cycles(problem, machine), default=None)

    def cycles(self, problem: Any, machine: Gpu) -> float:
        """Of the whole batch: waves of blocks, and the bytes of the output."""
        loops = problem.loops
        pixels = loops.batch * loops.height * loops.width
        blocks = -(-pixels // self.pixels) * loops.groups * -(-loops.out_channels // self.panel)
        each = -(-blocks // machine.multiprocessors)
        together = min(self._resident(machine), each)
        words = loops.reduction * loops.pixel_sums * loops.vector_sums
        block = self._block_cycles(words, machine)
        work = -(-each // together) * max(together * block, START_CYCLES + 20.0 * words)
        # Of tiles that all fit at once, the one that issues least.
        work += 0.3 * blocks * block / machine.multiprocessors
        written = pixels * loops.out_channels * loops.groups * (1 / 8 if loops.panel_multiple > 1 else 4)
        stored = machine.passing_cycles(written) / 2
        return max(work, stored) + 0.2 * min(work, stored) + KERNEL_CYCLES

    def _resident(self, machine: Gpu) -> int:
        """Blocks of a multiprocessor at once."""
        sums = self.rows * self.panel // 2 if self.unit == TENSOR_CORES else self.rows * self.columns
        shared = machine.shared_bytes // (self.pixels * (self.panel + PAD) * 4 + 1024)
        return max(
            1, min(FILE // (self.threads * (OTHER_REGISTERS + sums)), machine.threads // self.threads, shared)
        )

    def _block_cycles(self, words: int, machine: Gpu) -> float:
        """Instructions of all warps, as four schedulers issue them, or popcounts: ``words`` of each sum."""
        if self.unit == POPCOUNTS:
            popcounts = 128 / machine.popcount_lanes * self.rows * self.columns
            thread = (
                60 + words * (popcounts + 6 * self.rows + 2 * self.columns) + 10 * self.rows * self.columns
            )
            return self.warps * thread / 4 / ISSUED
        sixteens = self.panel // 16
        step = 2.5 * self.rows * (sixteens + 1) + 20 * self.rows + 4 * sixteens
        warp = 120 + -(-words // 8) * step + 4.5 * self.rows * self.panel
        return self.warps * warp / 4 / ISSUED


def _schedule_bitserial(site: Site) -> None:
    """A block for each tile: its sums into shared memory, then what is made of them, by all threads together."""
    sch, anchor, knobs = site.sch, site.anchor, site.knobs(BitserialGpuKnobs)
    last, channels = site.last, [knobs.panel]
    if (pack := site.stages.get("pack")) is not None:
        by_ballot(sch, pack)
        last, channels = pack, [knobs.panel // WORD_BITS, WORD_BITS]
    block, (_, panels) = tile_loops(sch, last, knobs.pixels, channels)
    pitch = knobs.panel + PAD
    keep_in_shared(sch, anchor, block, "shared", knobs.pixels, pitch, knobs.pixels)
    _call_function(sch, anchor, last, block, int(panels), knobs, pitch)
    share_tile(sch, last, knobs.panel, knobs.threads)


def _call_function(
    sch: Schedule,
    anchor: SBlockRV,
    last: SBlockRV,
    block: LoopRV,
    panels: int,
    knobs: BitserialGpuKnobs,
    pitch: int,
) -> None:
    """Call the device function for the tile that ``block`` is."""
    sums, number = sch.get(anchor), sch.get(block).loop_var
    column, place = tirx.floormod(number, panels), tirx.floordiv(number, panels)
    words, weight, tile = sums.reads[0].source, sums.reads[1].source, sums.writes[0].source
    geometry = BitserialTile.from_json(str(sums.annotations["fastconv.tile"]))
    sizes = {
        "panel": knobs.panel,
        "rows": knobs.rows,
        "pitch": pitch,
        "columns": knobs.columns,
        "threads": knobs.threads,
        "panels_per_group": int(weight.shape[0]) // geometry.groups,
    }
    name, source = tile_source(geometry, sizes, knobs.unit == TENSOR_CORES)
    pixels = sch.get(last).iter_vars[0].dom.extent
    numbers = [value.astype("int32") for value in (place * knobs.pixels, column, pixels)]
    call = cuda_func_call(name, tile.data, words.data, weight.data, *numbers, source_code=source)
    at = (place, column * knobs.panel)
    call_in_place(sch, anchor, call, at, (knobs.pixels, knobs.panel), knobs.threads)


register("cuda", ["bitserial_conv2d"], Template(_schedule_bitserial))
