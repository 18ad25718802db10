"""Lay out every fused function in loops, vectors and registers for one target."""

import logging

import tvm
from tvm import tirx

from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.schedules import schedule_primfunc

log = logging.getLogger(__name__)


@tvm.transform.module_pass(opt_level=0, name="SchedulePrimFuncs")
class SchedulePrimFuncs:
    """Schedule the PrimFuncs of a module that carry no schedule yet.

    Parameters
    ----------
    target : Target
    machine : Machine
        What there is to know of it.
    """

    def __init__(self, target: tvm.target.Target, machine: Machine) -> None:
        self.target, self.machine = target, machine

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Replace every unscheduled PrimFunc of ``mod``."""
        mod = mod.clone()
        for var, func in mod.functions.items():
            if isinstance(func, tirx.PrimFunc) and not (func.attrs and func.attrs.get("tirx.is_scheduled")):
                mod.update_func(var, self._scheduled(var.name_hint, func).with_attr("target", self.target))
        return mod

    def _scheduled(self, name: str, func: tirx.PrimFunc) -> tirx.PrimFunc:
        """``func`` scheduled, or as it is where TVM's primitives refuse a form that none of our operators has.

        Raises
        ------
        ValueError
            It would run on the CPU, on memory of a GPU.
        """
        try:
            made = schedule_primfunc(func, self.machine)
        except RuntimeError as error:  # ScheduleError and InternalError
            if "fastconv.op" in func.script():
                raise
            log.info("%s keeps plain loops: %s", name, str(error).strip().splitlines()[-1])
            made = func.with_attr("tirx.is_scheduled", True)
        if self.machine.kind == "cuda" and "Idx.x" not in made.script():
            raise ValueError(f"no kernel for a GPU can be made of {name}")
        return made
