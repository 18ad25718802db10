"""Compile a network for an emulated GPU as a file is compiled, and run it."""

from __future__ import annotations

import numpy as np
import torch
import tvm
from torch import nn
from tvm import relax

from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.topi.tir_pipeline import TIR_PIPELINE

from .emulate import TARGET, Session, in_all_orders


def compiled_network(
    model: nn.Module | torch.export.ExportedProgram,
    images: torch.Tensor,
    graphs: bool = False,
    allow_tf32: bool = False,
) -> relax.VMExecutable:
    """Kernels for a GPU in a host program for tensors of the CPU; with ``graphs``, runs of them in functions apart."""
    planner = Planner(machine_of(TARGET), allow_tf32=allow_tf32)
    passes = [
        *pipeline.graph_passes(planner),
        *pipeline.schedule_passes(TARGET, planner.machine),
        *pipeline.lower(),
    ]
    with TARGET, tvm.transform.PassContext(config=pipeline.GRAPHS if graphs else {}):
        lowered = tvm.transform.Sequential(passes)(import_model(model, images).mod)
        return tvm.compile(lowered, TARGET, relax_pipeline=None, tir_pipeline=TIR_PIPELINE)


def of_any_batch(model: nn.Module, images: torch.Tensor) -> torch.export.ExportedProgram:
    """The same network for any number of images, of which two or more are given."""
    return torch.export.export(model, (images,), dynamic_shapes=[{0: torch.export.Dim("n", min=1)}])


def run_network(machine: relax.VirtualMachine, session: Session, images: torch.Tensor) -> np.ndarray:
    """The result, once for each order of threads, which must be equal."""
    return in_all_orders(session, lambda: machine["main"](tvm.runtime.tensor(images.numpy())).numpy())
