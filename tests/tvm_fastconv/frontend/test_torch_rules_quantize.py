"""Quantized PyTorch models: fake quantization, and the quantize/dequantize pairs of PT2E; bit for bit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401  registers torch.ops.quantized_decomposed

import tvm_fastconv
from tvm_fastconv.errors import ModelError
from tvm_fastconv.frontend import import_model

from ...close import assert_close

ATEN, PAIRS = torch.ops.aten, torch.ops.quantized_decomposed


def buffer(values: list[float], dtype: torch.dtype = torch.float32) -> nn.Buffer:
    return nn.Buffer(torch.tensor(values, dtype=dtype))


class Net(nn.Module):
    """A function with scales and zero points to use, for one tensor and for 3 channels."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function
        self.scale, self.zero = buffer([0.3]), buffer([-2], torch.int32)
        self.low, self.high = (nn.Buffer(torch.tensor(bound)) for bound in (-128, 127))
        self.scales, self.zeros = buffer([0.1, 0.3, 0.07]), buffer([0, -3, 5], torch.int32)
        self.equal_scales, self.no_zeros = buffer([0.3] * 3), buffer([0] * 3, torch.int32)
        self.on, self.off = buffer([1], torch.uint8), buffer([0], torch.uint8)
        self.weight = nn.Parameter(torch.linspace(-1, 1, 60).reshape(3, 20))
        self.stored = nn.Buffer(torch.arange(-30, 30, dtype=torch.int8).reshape(3, 20))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def pair(net: Net, x: torch.Tensor) -> torch.Tensor:
    how = (0.3, -2, -128, 127, torch.int8)
    return PAIRS.dequantize_per_tensor(PAIRS.quantize_per_tensor(x, *how), *how)


def tensor_pair(net: Net, x: torch.Tensor) -> torch.Tensor:
    how = (net.scale, net.zero, -128, 127, torch.int8)
    return PAIRS.dequantize_per_tensor.tensor(PAIRS.quantize_per_tensor.tensor(x, *how), *how)


def bounded_pair(net: Net, x: torch.Tensor) -> torch.Tensor:
    how = (net.scale, net.zero, net.low, net.high, torch.int8)
    return PAIRS.dequantize_per_tensor.tensor2(PAIRS.quantize_per_tensor.tensor2(x, *how), *how)


def channel_pair(axis: int) -> Callable:
    def function(net: Net, x: torch.Tensor) -> torch.Tensor:
        how = (net.scales, net.zeros, axis, -128, 127, torch.int8)
        return PAIRS.dequantize_per_channel(PAIRS.quantize_per_channel(x, *how), *how)

    return function


PLAIN, SHIFTED = "multiply round clip multiply", "multiply round add clip subtract multiply"

# name -> (function, axis of the 3 channels in x, the Relax operators it becomes)
CASES: dict[str, tuple[Callable, int, str]] = {
    "tensor": (lambda net, x: torch.fake_quantize_per_tensor_affine(x, 0.3, 0, 0, 3), 1, PLAIN),
    "zero": (lambda net, x: torch.fake_quantize_per_tensor_affine(x, 0.3, -3, -8, 7), 1, SHIFTED),
    "buffers": (
        lambda net, x: torch.fake_quantize_per_tensor_affine(x, net.scale, net.zero, -8, 7), 1, SHIFTED,
    ),
    "computed": (
        lambda net, x: torch.fake_quantize_per_tensor_affine(x, net.scale.abs(), net.zero, -8, 7), 1,
        f"abs reshape divide {SHIFTED}",
    ),
    "channel 0": (
        lambda net, x: torch.fake_quantize_per_channel_affine(x, net.scales, net.zeros, 0, -8, 7), 0, SHIFTED,
    ),
    "channel 1": (
        lambda net, x: torch.fake_quantize_per_channel_affine(x, net.scales, net.zeros, 1, -8, 7), 1, SHIFTED,
    ),
    "equal channels": (
        lambda net, x: torch.fake_quantize_per_channel_affine(x, net.equal_scales, net.no_zeros, 1, 0, 3), 1, PLAIN,
    ),
    "tensor mask": (
        lambda net, x: ATEN.fake_quantize_per_tensor_affine_cachemask(x, 0.3, -3, -8, 7)[0], 1, SHIFTED,
    ),
    "channel mask": (
        lambda net, x: ATEN.fake_quantize_per_channel_affine_cachemask(x, net.scales, net.zeros, 0, -8, 7)[0], 0,
        SHIFTED,
    ),
    "switched on": (
        lambda net, x: ATEN._fake_quantize_per_tensor_affine_cachemask_tensor_qparams(
            x, net.scale, net.zero, net.on, -8, 7
        )[0], 1, SHIFTED,
    ),
    "switched off": (
        lambda net, x: ATEN._fake_quantize_per_tensor_affine_cachemask_tensor_qparams(
            x, net.scale, net.zero, net.off, -8, 7
        )[0] * 2, 1, "multiply",
    ),
    "pair": (pair, 1, SHIFTED),
    "tensor pair": (tensor_pair, 1, SHIFTED),
    "bounded pair": (bounded_pair, 1, SHIFTED),
    "channel pair 0": (channel_pair(0), 0, SHIFTED),
    "channel pair 1": (channel_pair(-1), 3, SHIFTED),
    "weight": (
        lambda net, x: x.flatten(1)[:, :20] * torch.fake_quantize_per_channel_affine(
            net.weight, net.scales, net.zeros, 0, -8, 7
        )[1:2], 1, "reshape strided_slice strided_slice multiply",
    ),
    "stored weight": (
        lambda net, x: x.flatten(1)[:, :20] * PAIRS.dequantize_per_channel(
            net.stored, net.scales, None, 0, -128, 127, torch.int8
        )[:1], 1, "reshape strided_slice strided_slice multiply",
    ),
}  # fmt: skip


def around_the_halves(axis: int) -> torch.Tensor:
    """Values half-way between two levels of each scale, the numbers next to them, and large ones."""
    halves = torch.arange(-40, 40) + 0.5
    middle = torch.outer(torch.tensor([0.1, 0.3, 0.07]), halves)
    above, below = (torch.nextafter(middle, torch.tensor(end)) for end in (torch.inf, -torch.inf))
    x = torch.cat([middle, above, below, middle * 1000], 1).reshape(3, 4, 8, 10)
    return x.movedim(0, axis).contiguous()


@pytest.mark.parametrize("name", CASES)
def test_matches_pytorch_bit_for_bit(name: str, run: Callable, calls: Callable) -> None:
    function, axis, operators = CASES[name]
    net, x = Net(function), around_the_halves(axis)
    imported = import_model(net, x)
    assert " ".join(op for op, _ in calls(imported)) == operators
    np.testing.assert_array_equal(run(imported)[0], net(x).detach().numpy())


def test_what_pytorch_decomposes_is_imported_too(run: Callable) -> None:
    net = Net(lambda net, x: torch.fake_quantize_per_tensor_affine(x, net.scale, net.zero, -8, 7))
    x = around_the_halves(1)
    program = torch.export.export(net, (x,)).run_decompositions()
    names = [node.target.__name__ for node in program.graph.nodes if node.op == "call_function"]
    assert "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default" in names
    np.testing.assert_array_equal(run(import_model(program))[0], net(x).detach().numpy())


def test_a_saved_program_is_read(tmp_path: Path, run: Callable) -> None:
    net, x = Net(pair), around_the_halves(1)
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "net.pt2")
    np.testing.assert_array_equal(run(import_model(tmp_path / "net.pt2"))[0], net(x).numpy())


REFUSED: dict[str, tuple[Callable, str]] = {
    "mask": (
        lambda net, x: ATEN.fake_quantize_per_tensor_affine_cachemask(x, 0.3, 0, 0, 3)[1].float(),
        "not where it did not clip",
    ),
    "float zeros": (
        lambda net, x: torch.fake_quantize_per_channel_affine(x, net.scales, net.zeros.float(), 1, 0, 3),
        "zero points must be integers",
    ),
    "integers": (
        lambda net, x: PAIRS.quantize_per_tensor(x, 0.3, 0, 0, 255, torch.uint8) + 1, "its integers are used by 'add'",
    ),
    "computed switch": (
        lambda net, x: ATEN._fake_quantize_per_tensor_affine_cachemask_tensor_qparams(
            x, net.scale, net.zero, (x[0, 0, 0, :1] > 0).int(), -8, 7
        )[0],
        "fake_quant_enabled must be a constant",
    ),
    "quantized tensors": (
        lambda net, x: torch.quantize_per_tensor(x, 0.3, 0, torch.quint8).dequantize(), "aten.quantize_per_tensor",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_it_cannot_do(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(ModelError, match=f"(?s)unsupported operators:.*{message}"):
        import_model(Net(function), around_the_halves(1))


def test_a_convolution_of_few_levels_counts_bits() -> None:
    class Quantized(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = torch.fake_quantize_per_channel_affine(self.weight, self.scales, self.zeros, 0, -1, 1)
            return self._conv_forward(torch.fake_quantize_per_tensor_affine(x, 0.3, 0, 0, 3), weight, None)

    torch.manual_seed(0)
    net = Quantized(32, 16, 3, padding=1, bias=False).eval()
    net.scales, net.zeros = (
        nn.Buffer(torch.rand(16) / 10 + 0.05),
        nn.Buffer(torch.zeros(16, dtype=torch.int32)),
    )
    x = torch.randn(1, 32, 9, 11)
    compiled = tvm_fastconv.compile(net, x)
    assert [layer.method for layer in compiled.layers] == ["bitserial"]
    want = net(x).detach().numpy()
    # 2e-6: PyTorch sums 288 products of float32 scales; ours are exact until they are scaled, where bits are faster
    assert_close(compiled(x.numpy()), want, 2e-6)


def test_copysign(run: Callable) -> None:
    values = torch.tensor([-torch.inf, -2.0, -0.0, 0.0, 3.0, torch.inf])
    x = torch.stack([values.roll(shift) for shift in range(6)])

    def function(net: Net, x: torch.Tensor) -> torch.Tensor:
        signed = torch.copysign(x, net.signs)
        return torch.stack(
            [signed, torch.copysign(net.signs, x), torch.copysign(x, -0.0), torch.copysign(x, 2)]
        )

    net = Net(function)
    net.signs = nn.Buffer(values)
    want, got = net(x).numpy(), run(import_model(net, x))[0]
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
