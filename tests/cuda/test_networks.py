"""Whole networks for a GPU, executed on the CPU through TVM's own host code and memory plan, against PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax

import tvm_fastconv as fc
from tvm_fastconv.demo import NETWORKS
from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes import pipeline
from tvm_fastconv.runtime.gpu import without_graphs
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.planner import Planner
from tvm_fastconv.train.models import make_model

from ..close import assert_close
from .emulate import TARGET, Session, attach, in_all_orders
from .networks import residual_network, settled


def _run(executable: relax.VMExecutable, session: Session, images: torch.Tensor) -> np.ndarray:
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return in_all_orders(session, lambda: machine["main"](tvm.runtime.tensor(images.numpy())).numpy())


def _compiled(model: nn.Module | torch.export.ExportedProgram, images: torch.Tensor) -> relax.VMExecutable:
    with TARGET:
        return tvm.compile(import_model(model, images).mod, target=TARGET, relax_pipeline="fastconv")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_of_the_demo(name: str) -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 1, 8, 8)
    model = make_model("digits_net", classes=10, channels=1, size=8, **NETWORKS[name])
    settled(model, images)
    # Signs of values that are exactly 0 are +1 for both.
    on_a_cpu = fc.compile(model, images)(images).numpy()
    with torch.no_grad(), attach(executable := _compiled(model, images)) as session:
        # Layers in another order of summation, through up to five of which rounding grows.
        assert_close(_run(executable, session, images), on_a_cpu, 1e-5)


def test_a_residual_network() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 20, 20)
    model = settled(residual_network(), images)
    with torch.no_grad(), attach(executable := _compiled(model, images)) as session:
        # Layers in another order of summation, through up to ten of which rounding grows.
        assert_close(_run(executable, session, images), model(images).numpy(), 1e-5)


def test_any_batch() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 20, 20)
    model = settled(residual_network(), images)
    program = torch.export.export(model, (images,), dynamic_shapes=[{0: torch.export.Dim("n", min=1)}])
    with torch.no_grad(), attach(executable := _compiled(program, images)) as session:
        for batch in (4, 1, 3):
            assert_close(_run(executable, session, images[:batch]), model(images[:batch]).numpy(), 1e-5)


def _captured(model: nn.Module, images: torch.Tensor) -> relax.VMExecutable:
    """Compiled as a file is, with what a graph can hold in functions of their own."""
    planner = Planner(machine_of(TARGET))
    passes = [
        *pipeline.graph_passes(planner),
        *pipeline.schedule_passes(TARGET, planner.machine),
        *pipeline.lower(),
    ]
    with TARGET, tvm.transform.PassContext(config=pipeline.GRAPHS):
        lowered = tvm.transform.Sequential(passes)(import_model(model, images).mod)
        return tvm.compile(lowered, TARGET, relax_pipeline=None)


def test_what_a_graph_captures_computes_the_same() -> None:
    torch.manual_seed(0)
    images = torch.randn(1, 3, 20, 20)
    model = settled(residual_network(), images)
    executable = _captured(model, images)
    with torch.no_grad(), _recorded_graphs() as inside, attach(executable) as session:
        inside.clear()
        got = _run(executable, session, images)
        assert_close(got, model(images).numpy(), 1e-5)
    assert len(inside) == 3


@contextlib.contextmanager
def _recorded_graphs():  # type: ignore[no-untyped-def]
    """Stand-ins for the builtins of the CUDA runtime, which note the graphs that are run."""
    with without_graphs():
        plain: Callable[..., object] = tvm.get_global_func("vm.builtin.cuda_graph.run_or_capture")
        seen: list[int] = []

        def run(machine, closure, args, index, *shape):  # type: ignore[no-untyped-def]
            seen.append(int(index))
            return plain(machine, closure, args, index, *shape)

        tvm.register_global_func("vm.builtin.cuda_graph.run_or_capture", run, override=True)
        yield seen
