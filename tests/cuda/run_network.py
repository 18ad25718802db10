"""Compile a network for an emulated GPU as a file is compiled, and run it."""

from __future__ import annotations

import numpy as np
import torch
import tvm
from torch import nn
from tvm import relax

from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes.pipeline import GRAPHS

from .emulate import TARGET, Session, in_all_orders


def compiled_network(
    model: nn.Module | torch.export.ExportedProgram, images: torch.Tensor, graphs: bool = False
) -> relax.VMExecutable:
    """Kernels for a GPU in a host program for tensors of the CPU; with ``graphs``, runs of them in functions apart."""
    with TARGET, tvm.transform.PassContext(config=GRAPHS if graphs else {}):
        return tvm.compile(import_model(model, images).mod, target=TARGET, relax_pipeline="fastconv")


def of_any_batch(model: nn.Module, images: torch.Tensor) -> torch.export.ExportedProgram:
    """The same network for any number of images, of which two or more are given."""
    return torch.export.export(model, (images,), dynamic_shapes=[{0: torch.export.Dim("n", min=1)}])


def run_network(machine: relax.VirtualMachine, session: Session, images: torch.Tensor) -> np.ndarray:
    """The result, once for each order of threads, which must be equal."""
    return in_all_orders(session, lambda: machine["main"](tvm.runtime.tensor(images.numpy())).numpy())
