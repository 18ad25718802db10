"""Schedules: how a fused PrimFunc is laid out in loops, vectors and registers.

`schedule_primfunc` is the only entry. A function that holds one of our operators is scheduled around that block, the
anchor, by the template that the registry has for it; everything else falls to the generic schedule of the
kind of target, which always applies.
"""

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..machine import Machine
from . import cpu, cuda  # noqa: F401  they register their templates
from .loops import anchor_of, anchors_of, inline_elementwise, stages_of
from .registry import Site, chain_of, generic_of, template_of
from .start_from_bias import start_from_bias


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

    Raises
    ------
    LookupError
        It holds an operator of ours that has no template for this kind of target, or the kind has no generic schedule.
    """
    if machine.kind == "llvm":
        func = start_from_bias(func)
    sch = Schedule(tvm.IRModule({"main": func}), enable_check=not _rounds_symbols(func, machine))
    if len(anchors_of(sch)) > 1:
        chain_of(machine.kind)(sch, machine)
    else:
        inline_elementwise(sch)
        anchor = anchor_of(sch)
        if anchor is not None:
            site = _alone(sch, anchor, machine)
            template_of(machine.kind, site.op).schedule(site)
    generic_of(machine.kind)(sch, machine)
    return sch.mod["main"].with_attr("tirx.is_scheduled", True)


def _rounds_symbols(func: tirx.PrimFunc, machine: Machine) -> bool:
    """Whether sums may be made for whole tiles of a symbolic number of rows: that these are enough TVM cannot prove."""
    sizes = [size for param in func.params for size in getattr(param, "shape", ())]
    return machine.kind == "cuda" and not all(isinstance(size, tirx.IntImm) for size in sizes)


def _alone(sch: Schedule, anchor: SBlockRV, machine: Machine) -> Site:
    """``anchor`` in a function of its own, whose epilogues are inlined."""
    stages = stages_of(sch)
    readers = sch.get_consumers(stages.get("output_columns", anchor))
    return Site(sch, anchor, readers[0] if readers else anchor, stages, machine)
