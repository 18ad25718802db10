"""Whole networks for a GPU, executed on the CPU through TVM's own host code and memory plan, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import tvm
from tvm import relax

import tvm_fastconv as fc
from tvm_fastconv.demo import NETWORKS
from tvm_fastconv.train.models import make_model

from ..close import assert_close
from .emulate import attach
from .graphs import replayed_graphs
from .networks import residual_network, settled
from .run_network import compiled_network, of_any_batch, run_network


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_of_the_demo(name: str) -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 1, 8, 8)
    model = make_model("digits_net", classes=10, channels=1, size=8, **NETWORKS[name])
    settled(model, images)
    # Signs of values that are exactly 0 are +1 for both.
    on_a_cpu = fc.compile(model, images)(images).numpy()
    with torch.no_grad(), attach(executable := compiled_network(model, images)) as session:
        machine = relax.VirtualMachine(executable, tvm.cpu())
        # Layers in another order of summation, through up to five of which rounding grows.
        assert_close(run_network(machine, session, images), on_a_cpu, 1e-5)


def test_a_residual_network() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 20, 20)
    model = settled(residual_network(), images)
    with torch.no_grad(), attach(executable := compiled_network(model, images)) as session:
        machine = relax.VirtualMachine(executable, tvm.cpu())
        # Layers in another order of summation, through up to ten of which rounding grows.
        assert_close(run_network(machine, session, images), model(images).numpy(), 1e-5)


def test_any_batch() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 20, 20)
    model = settled(residual_network(), images)
    executable = compiled_network(of_any_batch(model, images), images)
    with torch.no_grad(), attach(executable) as session:
        machine = relax.VirtualMachine(executable, tvm.cpu())
        for batch in (4, 1, 3):
            got = run_network(machine, session, images[:batch])
            assert_close(got, model(images[:batch]).numpy(), 1e-5)  # as above


def test_a_residual_network_in_tf32() -> None:
    """All layers but the first, whose three channels are no neighbours."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 20, 20)
    model = settled(residual_network(), images)
    with (
        torch.no_grad(),
        attach(executable := compiled_network(model, images, allow_tf32=True)) as session,
    ):
        got = run_network(relax.VirtualMachine(executable, tvm.cpu()), session, images)
        want = model(images).numpy()
    kernels = [launch.name for launch in session.launches if "tf32_conv2d" in launch.name]
    assert len(kernels) == 3 * 7
    # Seven layers whose factors are off by 2^-11, each by less than a thousandth of its largest output.
    assert_close(got, want, 2e-3)
    assert np.abs(got - want).max() > 1e-5 * np.abs(want).max()


def test_any_batch_in_tf32() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 20, 20)
    model = settled(residual_network(), images)
    executable = compiled_network(of_any_batch(model, images), images, allow_tf32=True)
    with torch.no_grad(), attach(executable) as session:
        machine = relax.VirtualMachine(executable, tvm.cpu())
        for batch in (4, 1, 3):
            got = run_network(machine, session, images[:batch])
            assert_close(got, model(images[:batch]).numpy(), 2e-3)  # as above


def test_what_a_graph_captures_computes_the_same() -> None:
    torch.manual_seed(0)
    images = torch.randn(3, 1, 3, 20, 20)
    model = settled(residual_network(), images[0])
    executable = compiled_network(model, images[0], graphs=True)
    with torch.no_grad(), attach(executable) as session, replayed_graphs(session) as graphs:
        machine = relax.VirtualMachine(executable, tvm.cpu())
        for each in images:
            assert_close(run_network(machine, session, each), model(each).numpy(), 1e-5)  # as above
    (region,) = graphs.kernels.values()
    assert graphs.replayed == 8 * len(region)
    # All but the first function, of one kernel here, and the last, of two.
    assert len(session.launches) == 9 * (len(region) + 3)
