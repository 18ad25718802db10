"""Schedules: how a fused PrimFunc is laid out in loops, vectors and registers.

`schedule_primfunc` is the only entry. A function that holds one of our operators is scheduled around that block, the
anchor; everything else falls to the generic schedule, which always applies.
"""

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..machine import Machine
from .bitserial import schedule_bitpack, schedule_packed_tile
from .bitserial_depthwise import schedule_bitserial_depthwise
from .chain import schedule_chain
from .conv2d import schedule_tile
from .generic import schedule_generic
from .lookup import LookupKnobs, schedule_lookup
from .loops import anchor_of, anchors_of, inline_elementwise, stages_of
from .pack_matrix import schedule_pack_columns, schedule_pack_rows
from .tile import TileKnobs
from .window import WindowKnobs, schedule_stencils, schedule_window
from .winograd import WinogradKnobs, schedule_winograd
from .xnor_gemm import schedule_xnor_gemm

TILED = ("conv2d", "grouped_conv2d", "dense", "batch_matmul", "bitserial_conv2d", "int8_conv2d")
GENERIC = ("bit_max_pool2d", "lookup_dense")
WINDOWED = ("depthwise_conv2d", "max_pool2d", "avg_pool2d")


def schedule_primfunc(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc:
    """Schedule one fused function for ``machine``.

    Parameters
    ----------
    func : PrimFunc
        As ``FuseTIR`` leaves it: serial loops, one block per stage.

    Returns
    -------
    PrimFunc
        With the same signature and attributes, marked as scheduled.
    """
    sch = Schedule(tvm.IRModule({"main": func}))
    if len(anchors_of(sch)) > 1:
        schedule_chain(sch)
    else:
        inline_elementwise(sch)
        anchor = anchor_of(sch)
        if anchor is not None:
            _schedule_anchor(sch, anchor, machine)
    schedule_generic(sch, machine)
    return sch.mod["main"].with_attr("tirx.is_scheduled", True)


def _schedule_anchor(sch: Schedule, anchor: SBlockRV, machine: Machine) -> None:
    annotations = sch.get(anchor).annotations
    name, knobs = annotations["fastconv.op"], annotations["fastconv.knobs"]
    stages = stages_of(sch)
    if name in GENERIC:
        return
    if name == "bitpack":
        schedule_bitpack(sch, anchor, stages, machine)
        return
    if name == "bitserial_depthwise_conv2d":
        schedule_bitserial_depthwise(sch, anchor, stages, machine)
        return
    if name == "fixed_stencils":
        schedule_stencils(sch, anchor, stages["window"], WindowKnobs.from_json(knobs))
        return
    if name == "pack_rows":
        schedule_pack_rows(sch, anchor, stages)
        return
    if name == "pack_columns":
        schedule_pack_columns(sch, anchor, stages)
        return
    if "pack" in stages:
        schedule_packed_tile(sch, anchor, stages, TileKnobs.from_json(knobs))
        return
    last = sch.get_consumers(stages.get("output_columns", anchor))[0]
    if name == "winograd_conv2d":
        schedule_winograd(sch, anchor, last, stages, WinogradKnobs.from_json(knobs))
    elif name == "lookup_conv2d":
        schedule_lookup(sch, anchor, last, LookupKnobs.from_json(knobs))
    elif name == "xnor_gemm":
        schedule_xnor_gemm(sch, anchor, last, stages, TileKnobs.from_json(knobs))
    elif name in TILED:
        schedule_tile(sch, anchor, last, stages, TileKnobs.from_json(knobs))
    else:
        schedule_window(sch, anchor, last, stages["window"], WindowKnobs.from_json(knobs))
