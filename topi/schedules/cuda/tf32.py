"""Convolutions in TF32: a tile of sums for each block, by a device function (`tf32_source`), whose steps lay there too.

Where the terms are sliced, a second kernel adds the sums of all slices.
"""

from __future__ import annotations

import math

import tvm
from tvm import tirx
from tvm.backend.cuda.op import cuda_func_call
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ..registry import Site, Template, register
from .gemm import add_slices
from .sum_tile import call_in_place, keep_in_shared, share_tile, tile_loops
from .tf32_knobs import Tf32Knobs
from .tf32_source import Tf32Tile, tile_source


def _schedule_tf32(site: Site) -> None:
    """A block for each tile: its sums into shared memory, then what is made of them, by all threads together."""
    sch, anchor, knobs, last, lead = site.sch, site.anchor, site.knobs(Tf32Knobs), site.last, 0
    if knobs.slices > 1:
        add_slices(sch, site.stages["total"])
        last, lead = sch.cache_write(anchor, 0, "shared.dyn"), 1
    block, counts = tile_loops(sch, last, knobs.tile_m, [knobs.tile_o], lead)
    keep_in_shared(sch, anchor, block, "shared.dyn", knobs.tile_m, knobs.pitch, knobs.room)
    _call_function(sch, anchor, block, counts, knobs)
    share_tile(sch, last, knobs.tile_o, knobs.threads)


def _call_function(
    sch: Schedule, anchor: SBlockRV, block: LoopRV, counts: list[int | tvm.ir.Expr], knobs: Tf32Knobs
) -> None:
    """Call the device function for the tile that ``block`` is."""
    sums, number, (tiles, panels) = sch.get(anchor), sch.get(block).loop_var, counts
    column, place = tirx.floormod(number, panels), tirx.floordiv(number, panels)
    data, weight, tile = sums.reads[0].source, sums.reads[1].source, sums.writes[0].source
    part = tirx.floordiv(place, tiles) if knobs.slices > 1 else tirx.const(0, "int64")
    place = tirx.floormod(place, tiles) if knobs.slices > 1 else place
    geometry = Tf32Tile.from_json(str(sums.annotations["fastconv.tile"]))
    steps = int(weight.shape[1])
    name, source = tile_source(geometry, knobs.sizes | {"steps": steps, "per_slice": steps // knobs.slices})
    planes = tirx.floordiv(math.prod(data.shape[:-1], start=1), math.prod(geometry.plane))
    numbers = (place * knobs.tile_m, column, part, planes * math.prod(geometry.out_plane))
    at = ([part] if knobs.slices > 1 else []) + [place, column * knobs.tile_o]
    first = tirx.address_of(tile[(*at[:-1], 0, at[-1])])
    call = cuda_func_call(
        name, first, data.data, weight.data, *(n.astype("int32") for n in numbers), source_code=source
    )
    call_in_place(sch, anchor, call, at, (knobs.tile_m, knobs.tile_o), knobs.threads)


register("cuda", ["tf32_conv2d"], Template(_schedule_tf32))
