"""What a pass makes of a PyTorch model: the operators left in its graph, and the numbers."""

from typing import Any

import torch
import tvm
from torch import nn

from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.relay_passes.graph.rewrite import op_name
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.planner import Planner

HASWELL = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "haswell"})
PLANNER = Planner(machine_of(HASWELL))


def canonical(model: nn.Module, x: torch.Tensor, *passes: Any) -> tvm.IRModule:
    """``model`` as the dispatching passes get it, and then through ``passes``."""
    before = [
        *pipeline.simplify(),
        *pipeline.approximate_signs(),
        *pipeline.canonicalize(PLANNER.machine),
        *passes,
    ]
    return tvm.transform.Sequential(before)(import_model(model.eval(), x).mod)


def operators(mod: tvm.IRModule) -> list[str]:
    """The standard operators of ``main`` that compute, and by their names those that are ours."""
    found = []
    for block in mod["main"].body.blocks:
        for binding in block.bindings:
            name = op_name(binding.value)
            if name == "call_tir":
                found.append(_ours(mod[binding.value.args[0]]))
            elif name not in (None, "permute_dims", "reshape"):
                found.append(name)
    return found


def _ours(func: tvm.tirx.PrimFunc) -> str:
    sch = tvm.s_tir.Schedule(tvm.IRModule({"main": func}))
    blocks = sch.get_child_blocks(sch.get_sblock("root"))
    names = [sch.get(block).annotations.get("fastconv.op") for block in blocks]
    return next(str(name) for name in names if name is not None)
