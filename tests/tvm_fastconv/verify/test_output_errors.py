import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tvm_fastconv as fc
from tvm_fastconv.decompose.lookup import lookup
from tvm_fastconv.decompose.spatial import spatial


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 6, 3, stride=2, padding=1, output_padding=1),
        nn.Conv2d(6, 4, 3),
    ).eval()


def _off(layer: nn.Conv2d, approximation: np.ndarray, x: torch.Tensor) -> float:
    """By how many percent the output without bias moves, in float64."""
    plain = [
        functional.conv2d(x.double(), weight.double(), None, layer.stride, layer.padding)
        for weight in (layer.weight, torch.from_numpy(approximation))
    ]
    return 100 * float((plain[1] - plain[0]).norm() / plain[0].norm())


def _reported(compiled: fc.CompiledModel, name: str) -> float:
    reason = next(layer.reason for layer in compiled.layers if layer.name == name)
    return float(
        reason.split("its output without the bias is off by ")[1].split(" % on the example input")[0]
    )


def test_every_layer_is_fed_with_the_original_activations() -> None:
    model, x = _model(), torch.randn(2, 3, 16, 12)
    compiled = fc.compile(model, x, methods={"[036]": fc.SpatialSeparable()})
    with torch.no_grad():
        for name in ("3", "6"):
            layer = model[int(name)]
            found = spatial(layer.weight.numpy(), channels=layer.out_channels)
            want = _off(layer, found.weight, model[: int(name)](x))
            # 0.6 %: the report has three digits
            assert _reported(compiled, name) == pytest.approx(want, rel=6e-3)
    assert "on the example input" not in next(r.reason for r in compiled.layers if r.name == "3.column")


@pytest.mark.parametrize("method", [fc.Bitserial(), fc.Lookup(dictionary_size=8, density=0.3)])
def test_all_lossy_methods_say_it(method: object) -> None:
    compiled = fc.compile(_model(), torch.randn(2, 3, 16, 12), methods={"3": method})
    assert 1 < _reported(compiled, "3") < 100


def test_the_binary_layer_agrees_with_pytorch() -> None:
    model, x = _model(), torch.randn(2, 3, 16, 12)
    compiled = fc.compile(model, x, methods={"3": fc.Bitserial()})
    with torch.no_grad():
        data, weight = model[:3](x), model[3].weight
        scale = weight.abs().mean((1, 2, 3), keepdim=True)
        binary = scale * torch.where(weight >= 0, 1.0, -1.0)
        sums = functional.conv2d(torch.where(data >= 0, 1.0, -1.0), binary, None, 2, 1)
        magnitude = functional.conv2d(
            data.abs().mean(1, keepdim=True), torch.full((1, 1, 3, 3), 1 / 9), None, 2, 1
        )
        want = functional.conv2d(data, weight, None, 2, 1)
        off = 100 * float((sums * magnitude - want).norm() / want.norm())
    # 0.6 %: the report has three digits
    assert _reported(compiled, "3") == pytest.approx(off, rel=6e-3)


def test_a_dynamic_batch_and_no_verification() -> None:
    model, x = _model(), torch.randn(2, 3, 16, 12)
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    compiled = fc.compile(program, methods={"3": fc.SpatialSeparable()}, verify=False)
    layer = model[3]
    with torch.no_grad():
        want = _off(layer, spatial(layer.weight.numpy(), channels=12).weight, model[:3](x))
    # 0.6 %: the report has three digits
    assert _reported(compiled, "3") == pytest.approx(want, rel=6e-3)


def test_without_finite_example_inputs_nothing_is_said() -> None:
    with pytest.warns(UserWarning, match="NaN or infinity"):
        compiled = fc.compile(_model(), torch.full((2, 3, 16, 12), torch.nan), methods={"3": fc.CP(rank=3)})
    reason = next(layer.reason for layer in compiled.layers if layer.name == "3")
    assert "the weights are off by" in reason
    assert "its output" not in reason


def test_a_layer_that_is_the_result_itself() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 30, bias=False), torch.randn(4, 24)
    compiled = fc.compile(nn.Sequential(layer).eval(), x, methods=fc.Lookup(dictionary_size=10, density=0.4))
    found = lookup(layer.weight.detach().numpy()[:, :, None, None], dictionary_size=10, density=0.4)
    with torch.no_grad():
        missed = x.double() @ (layer.weight.double() - torch.from_numpy(found.weight[:, :, 0, 0])).T
        off = 100 * float(missed.norm() / layer(x).norm())
    # 0.6 %: the report has three digits
    assert _reported(compiled, "0") == pytest.approx(off, rel=6e-3)


def test_nothing_is_relative_to_an_output_of_zeros() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False)).eval()
    (_, layer) = fc.compile(model, torch.zeros(1, 3, 8, 8), methods=fc.FixedStencil()).layers
    assert "the weights are off by" in layer.reason
    assert "its output" not in layer.reason
