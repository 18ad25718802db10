"""Inputs of a pixel in vectors: one load for as many steps of the reduction as it has lanes, each of which multiplies.

A Cortex-A53 issues no multiply-add beside a load of its vector registers, which takes a cycle for one float and two for
four (measured for ncnn: ``docs/developer-guide/arm-a53-a55-dual-issue.md`` there). A Cortex-A55 does, beside one or
two. Nor does LLVM move loads ahead of the multiply-adds before them: vector by vector, there are all pixels of a tile
between the loads of two vectors of weights.
"""

from tvm import tirx
from tvm.s_tir.schedule import LoopRV

from ..registry import Site


def packs_inputs(site: Site, reduction: LoopRV) -> bool:
    """Whether the loop ``reduction`` of the anchor, which goes through neighbouring floats, is to load vectors."""
    steps, lanes = site.sch.get(reduction).extent, site.machine.lanes
    data = site.sch.get(site.anchor).reads[0].source
    if not site.machine.packs_inputs or str(data.dtype) != "float32":
        return False
    return isinstance(steps, tirx.IntImm) and int(steps) % lanes == 0


def pack_inputs(site: Site, reduction: LoopRV, pixels: list[LoopRV], vector: LoopRV, lane: LoopRV) -> LoopRV:
    """Unroll ``lanes`` steps of ``reduction`` behind the loads of what they read; returns the loop around them.

    Inside of it, nothing but ``pixels``, ``vector`` and ``lane`` of the anchor may be.
    """
    sch = site.sch
    steps, step = sch.split(reduction, [None, site.machine.lanes])
    sch.reorder(steps, step, vector, *pixels, lane)
    packed = sch.cache_read(site.anchor, 0, "local")
    sch.compute_at(packed, steps, preserve_unit_loops=True)
    *places, channel = sch.get_loops(packed)[-len(sch.get(packed).iter_vars) :]
    sch.vectorize(channel)
    for loop in (step, *places):
        sch.unroll(loop)
    return steps
