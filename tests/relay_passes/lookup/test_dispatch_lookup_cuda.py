"""Networks of lookups for a GPU, executed on the CPU."""

import pytest
import torch
import tvm
from torch import nn
from tvm import relax

from benchmarks.lookup_networks import lookup_conv2d
from tests.close import assert_close
from tests.cuda.emulate import TARGET, attach, in_all_orders
from tvm_fastconv.frontend import import_model
from tvm_fastconv.relay_passes.lookup import dispatch_lookup


def _network() -> nn.Module:
    """A strided convolution, one of stride 1 and a flat one, each behind a dictionary, and a linear layer with none."""
    torch.manual_seed(0)
    linear = nn.Linear(48, 20)
    linear.weight.data.mul_(torch.rand_like(linear.weight) < 0.2)
    return nn.Sequential(
        *lookup_conv2d(3, 10, 5, 2, 1, 4, 0.3), nn.ReLU(), nn.MaxPool2d(2),
        *lookup_conv2d(10, 24, 3, 1, 1, 16, 0.1), nn.ReLU(),
        *lookup_conv2d(24, 48, 5, 1, 0, 12, 0.05), nn.ReLU(),
        nn.Flatten(), linear, nn.ReLU(), nn.Linear(20, 5),
    )  # fmt: skip


@pytest.fixture
def _always_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers this small would be dense by estimate."""
    costs = {"lookup": 1.0, "dense": 2.0}
    monkeypatch.setattr(dispatch_lookup, "estimates", lambda *_: costs)


@pytest.mark.usefixtures("_always_lookups")
@pytest.mark.parametrize("batch", [1, 3, "any"])
def test_a_network_of_lookups(batch: int | str) -> None:
    model, images = _network().eval(), torch.randn(3 if batch == "any" else batch, 3, 23, 23)
    source: nn.Module | torch.export.ExportedProgram = model
    if batch == "any":
        sizes = [{0: torch.export.Dim("n", min=1)}]
        source = torch.export.export(model, (images,), dynamic_shapes=sizes)
    with TARGET:
        executable = tvm.compile(import_model(source, images).mod, target=TARGET, relax_pipeline="fastconv")
    with torch.no_grad(), attach(executable) as session:
        machine = relax.VirtualMachine(executable, tvm.cpu())
        for count in {len(images), 1}:
            if count != len(images) and batch != "any":
                continue
            part = images[:count]
            got = in_all_orders(
                session, lambda part=part: machine["main"](tvm.runtime.tensor(part.numpy())).numpy()
            )
            # Eight layers in another order of summation, through which rounding grows.
            assert_close(got, model(part).numpy(), 1e-5)
    kernels = {launch.name for launch in session.launches}
    assert sum("lookup_conv2d" in name for name in kernels) == 2, kernels
    assert any("lookup_dense" in name for name in kernels)
    assert any("pointwise_planar" in name for name in kernels)
