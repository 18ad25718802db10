"""Networks as they are used, on an emulated GPU: as a file holds them, with graphs, and for any number of images."""

from __future__ import annotations

import itertools

import pytest
import torch
import tvm
from torch import nn
from tvm import relax

import tvm_fastconv as fc
from benchmarks.lookup_networks import make_lookup_network
from benchmarks.networks import make_network
from tvm_fastconv.train.layers import BinaryConv2d

from ..close import assert_close
from .emulate import attach
from .graphs import replayed_graphs
from .run_network import compiled_network, of_any_batch, run_network

pytestmark = pytest.mark.slow

DECIDED = 1e-5
"""Numbers whose sign no rounding turns: ten times what rounding adds up to in Bi-Real-18."""


def _mobilenet_v2() -> tuple[nn.Module, torch.Tensor]:
    model, (images,) = make_network("mobilenet_v2", batch=2)
    return model, images


def _lcnn_alexnet() -> tuple[nn.Module, torch.Tensor]:
    model, (images,) = make_lookup_network("lcnn_fast_alexnet", batch=2)
    return model, images


def _bireal18() -> tuple[nn.Module, torch.Tensor]:
    """And two images, small ones, in which every sign is decided: one that turns would turn half of the result."""
    model, _ = make_network("bireal18")
    nearest: list[float] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: nearest.append(float(given[0].abs().min())))
        for layer in model.modules()
        if isinstance(layer, BinaryConv2d)
    ]

    def is_decided(image: torch.Tensor) -> bool:
        nearest.clear()
        model(image)
        return min(nearest) > DECIDED

    with torch.no_grad():
        images = (torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(n)) for n in range(100))
        found = torch.cat(list(itertools.islice(filter(is_decided, images), 2)))
    for hook in hooks:
        hook.remove()
    return model, found


# Layers in another order of summation, through which rounding grows: 53 of them, 21, and 14.
MADE = {
    "mobilenet_v2": (_mobilenet_v2, 2e-5),
    "bireal18": (_bireal18, 1e-5),
    "lcnn_alexnet": (_lcnn_alexnet, 1e-5),
}


@torch.no_grad()
@pytest.mark.parametrize("name", MADE)
def test_a_network_as_a_file_holds_it(name: str) -> None:
    """Kernels run by themselves first, then as a graph: what is launched again reads another image."""
    make, tolerance = MADE[name]
    model, images = make()
    on_a_cpu = fc.compile(model, images[:1], verify=False)
    executable = compiled_network(model, images[:1], graphs=True)
    with attach(executable) as session, replayed_graphs(session) as graphs:
        machine = relax.VirtualMachine(executable, tvm.cpu())
        for image in (*images.split(1), images[:1]):
            got = run_network(machine, session, image)
            assert_close(got, model(image), tolerance)
            assert_close(got, on_a_cpu(image), tolerance)
    (region,) = graphs.kernels.values()
    assert graphs.replayed == 8 * len(region)
    # All but the first function and the last, which read the input and write the result: of up to two kernels each.
    assert len(session.launches) <= 9 * (len(region) + 4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mobilenet_v2", "bireal18"])
def test_it_takes_any_batch(name: str) -> None:
    make, tolerance = MADE[name]
    model, images = make()
    executable = compiled_network(of_any_batch(model, images), images, graphs=True)
    with attach(executable) as session, replayed_graphs(session):
        machine = relax.VirtualMachine(executable, tvm.cpu())
        for some in (images, images[1:], images[:1].repeat(3, 1, 1, 1)):
            assert_close(run_network(machine, session, some), model(some), tolerance)
