"""Binary layers: what each quantizer rounds to, its gradient, where layers start, what the compiler makes of them."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tests.choices import ZEN_4, choices
from tests.close import assert_close
from tvm_fastconv.decompose.few_levels import few_levels
from tvm_fastconv.train.layers import BinaryConv2d, BinaryLinear, RPReLU
from tvm_fastconv.train.layers.quantizers import ACTIVATIONS, WEIGHTS, make_quantizer
from tvm_fastconv.train.layers.xnor_products import use_xnor_

X = torch.tensor([-2.0, -1.0, -0.25, -0.0, 0.0, 0.25, 0.75, 1.0, 2.0])


def _gradient(quantize: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    quantize(x).sum().backward()
    return x.grad


@pytest.mark.parametrize("name", ["sign", "approximate_sign", "shifted_sign"])
def test_zero_is_positive_and_so_is_minus_zero(name: str) -> None:
    quantize = make_quantizer(ACTIVATIONS, name, 1, 1)
    assert quantize(X[:, None]).flatten().tolist() == [-1, -1, -1, 1, 1, 1, 1, 1, 1]


def test_going_back_signs_are_what_the_papers_say() -> None:
    clipped = _gradient(make_quantizer(ACTIVATIONS, "sign", 1, 1), X)
    assert clipped.tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 0]
    parabola = _gradient(make_quantizer(ACTIVATIONS, "approximate_sign", 1, 1), X)
    inside = (X.abs() < 1).float()
    torch.testing.assert_close(parabola, inside * (2 - 2 * X.abs()))


def test_shifts_are_learned_per_channel() -> None:
    quantize, x = make_quantizer(ACTIVATIONS, "shifted_sign", 1, 3), torch.randn(8, 3, 5, 5)
    x[:, 1] += 7
    quantize.start_from(x)
    torch.testing.assert_close(quantize.shift.detach(), x.mean((0, 2, 3)))
    assert torch.equal(quantize(x), torch.where(x >= quantize.shift[:, None, None], 1.0, -1.0))
    quantize(x).sum().backward()
    assert (quantize.shift.grad != 0).all()
    rows = make_quantizer(ACTIVATIONS, "shifted_sign", 1, 3, axis=-1)
    assert rows(torch.randn(2, 4, 3)).shape == (2, 4, 3)


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_dorefa_rounds_to_fractions(bits: int) -> None:
    top = 2**bits - 1
    x = torch.linspace(-0.5, 1.5, 1001)
    got = make_quantizer(ACTIVATIONS, "dorefa", bits, 1)(x)
    assert torch.equal(got, torch.round(x.clamp(0, 1) * top) / top)
    assert len(got.unique()) == 2**bits
    weight = torch.randn(5, 7, 3, 3)
    got = make_quantizer(WEIGHTS, "dorefa", bits, 5)(weight)
    if bits == 1:
        want = weight.abs().mean() * torch.where(weight >= 0, 1.0, -1.0)
    else:
        shares = torch.tanh(weight) / (2 * torch.tanh(weight).abs().max()) + 0.5
        want = 2 * (torch.round(shares * top) / top) - 1
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize(("name", "shift"), [("lsq", 0.0), ("signed_lsq", -0.5)])
def test_learned_steps_start_near_the_values(name: str, shift: float, bits: int) -> None:
    quantize, x = make_quantizer(ACTIVATIONS, name, bits, 1), torch.rand(4000) + shift
    quantize.start_from(x)
    got = quantize(x)
    step = quantize.step.item()
    low, high = quantize.levels
    levels = got / step
    assert torch.equal(levels.round().unique(), levels.unique().round())
    assert low <= levels.min().round() <= levels.max().round() <= high
    # evenly spread values: with steps of 1 / (2^bits - 1) each is off by a twelfth of their square in the mean
    ideal = 1 / (2**bits - 1) / math.sqrt(12)
    assert (got - x).square().mean().sqrt() < 1.3 * ideal


def test_the_gradient_of_a_step_is_the_paper_s() -> None:
    quantize = make_quantizer(ACTIVATIONS, "lsq", 2, 1)
    with torch.no_grad():
        quantize.step.fill_(0.5)
    x = torch.tensor([[-1.0, 0.3, 0.8, 9.0]])
    quantize(x).sum().backward()
    inside = [round(v / 0.5) - v / 0.5 for v in (0.3, 0.8)]
    want = (0 + sum(inside) + 3) / math.sqrt(4 * 3)  # eq. 3, scaled by 1 / sqrt(N Q): N of one image
    assert quantize.step.grad.item() == pytest.approx(want, rel=1e-5)
    assert _gradient(quantize, x).tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_learned_steps_of_weights_start_from_the_nearest_levels(bits: int) -> None:
    weight = torch.randn(6, 5, 3, 3)
    quantize = make_quantizer(WEIGHTS, "lsq", bits, 6)
    quantize.start_from(weight)
    got = quantize(weight)
    levels = (got / quantize.step.view(-1, 1, 1, 1)).round()
    assert (levels % 2 != 0).all()
    assert levels.abs().max() <= 2**bits - 1
    error = float((got - weight).norm() / weight.norm())
    assert error == pytest.approx(
        few_levels(weight.numpy(), bits).error, rel=0.02
    )  # scales are refitted there


@pytest.mark.parametrize("quantize_name", ["xnor", "lsq"])
def test_one_bit_of_weights_is_the_mean_magnitude_with_a_sign(quantize_name: str) -> None:
    weight = torch.randn(6, 5, 3, 3)
    quantize = make_quantizer(WEIGHTS, quantize_name, 1, 6)
    quantize.start_from(weight)
    want = weight.abs().mean((1, 2, 3), keepdim=True) * torch.where(weight >= 0, 1.0, -1.0)
    torch.testing.assert_close(quantize(weight), want)


def test_rprelu_is_what_reactnet_says() -> None:
    layer, x = RPReLU(3), torch.randn(2, 3, 4, 4)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    before, slope, after = (p.view(-1, 1, 1) for p in (layer.before, layer.slope.weight, layer.after))
    moved = x - before
    torch.testing.assert_close(layer(x), torch.where(moved > 0, moved, slope * moved) + after)


GEOMETRIES: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (5, 3), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "bias": False},
    {"kernel_size": 3, "groups": 2, "padding": "same", "padding_mode": "reflect"},
]


@pytest.mark.parametrize("magnitude", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_it_is_a_convolution_of_what_is_quantized(geometry: dict[str, Any], magnitude: bool) -> None:
    layer, x = BinaryConv2d(8, 6, magnitude=magnitude, **geometry), torch.randn(2, 8, 11, 10)
    signs = torch.where(x >= 0, 1.0, -1.0)
    dense = nn.Conv2d(8, 6, **geometry)
    dense.weight.data.copy_(layer.weight.abs().mean((1, 2, 3), keepdim=True))
    dense.weight.data.mul_(torch.where(layer.weight >= 0, 1.0, -1.0))
    if dense.bias is not None:
        dense.bias.data.copy_(layer.bias)
    want = dense(signs)
    if magnitude:
        groups = geometry.get("groups", 1)
        box = nn.Conv2d(groups, groups, **geometry | {"bias": False, "groups": groups})
        nn.init.constant_(box.weight, 1 / box.weight[0].numel())
        means = box(torch.stack([part.abs().mean(1) for part in x.chunk(groups, 1)], 1))
        bias = 0 if dense.bias is None else dense.bias.view(-1, 1, 1)
        want = (want - bias) * means.repeat_interleave(6 // groups, 1) + bias
    torch.testing.assert_close(layer(x), want)


def test_it_starts_from_a_dense_layer() -> None:
    conv, x = nn.Conv2d(16, 12, 3), torch.rand(4, 16, 9, 9)
    for bits in (1, 2, 4, 8):
        config = fc.Bitserial(weight_bits=bits, activation_bits=bits)
        layer = BinaryConv2d.from_conv(conv, config, inputs=x)
        assert layer.error == pytest.approx(few_levels(conv.weight.detach().numpy(), bits).error, rel=0.02)
        assert torch.equal(layer.weight, conv.weight)
        off = float((layer(x) - conv(x)).norm() / conv(x).norm())
        assert off < {1: 0.9, 2: 0.4, 4: 0.1, 8: 0.01}[bits]


def test_without_inputs_it_is_what_compiling_with_the_method_gives() -> None:
    model, x = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1)).eval(), torch.randn(1, 16, 9, 9)
    want = fc.compile(model, (x,), methods=fc.Bitserial(weight_bits=2))(x)
    layer = BinaryConv2d.from_conv(model[0], fc.Bitserial(weight_bits=2))
    # 1e-5: scales of float32, and sums in another order
    assert (layer(x) - want).abs().max() <= 1e-5 * want.abs().max()


def test_a_linear_layer_is_one_too() -> None:
    linear, x = nn.Linear(24, 10), torch.randn(7, 5, 24)
    layer = BinaryLinear.from_linear(linear, fc.Bitserial())
    weight = linear.weight.abs().mean(1, keepdim=True) * torch.where(linear.weight >= 0, 1.0, -1.0)
    signs = torch.where(x >= 0, 1.0, -1.0)
    want = signs @ weight.T * x.abs().mean(-1, keepdim=True) + linear.bias
    torch.testing.assert_close(layer(x), want)


@pytest.mark.parametrize("linear", [False, True], ids=["conv2d", "linear"])
@pytest.mark.parametrize(
    ("weight", "activation", "weight_bits", "activation_bits"),
    [
        ("sign", "sign", 1, 1),
        ("xnor", "approximate_sign", 1, 1),
        ("xnor", "shifted_sign", 1, 1),
        ("dorefa", "dorefa", 1, 1),
        ("dorefa", "dorefa", 2, 2),
        ("lsq", "lsq", 1, 2),
        ("lsq", "lsq", 2, 1),
        ("lsq", "signed_lsq", 1, 1),
        ("lsq", "signed_lsq", 2, 2),
        ("lsq", "lsq", 4, 4),
    ],
)
def test_the_compiler_knows_it(
    linear: bool, weight: str, activation: str, weight_bits: int, activation_bits: int
) -> None:
    options = {
        "weight": weight,
        "activation": activation,
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
    }
    if linear:
        x = torch.randn(1, 64)
        model = nn.Sequential(nn.BatchNorm1d(64), BinaryLinear(64, 48, **options))
    else:
        x = torch.randn(1, 32, 14, 14)
        model = nn.Sequential(nn.BatchNorm2d(32), BinaryConv2d(32, 48, 3, padding=1, **options))
    model.eval()
    (found,) = choices(model, (x,), ZEN_4).layers
    assert found.method == "bitserial"
    assert found.op in ("bitserial_conv2d", "int8_conv2d")
    planes = "1 weight plane:" if weight_bits == 1 else f"{weight_bits} weight planes:"
    assert found.reason.startswith(f"{activation_bits}-bit activations, {planes}")
    want = model(x).detach()
    # 2e-6: sums of integers are exact, and are scaled in float32
    assert (fc.compile(model, (x,))(x) - want).abs().max() <= 2e-6 * want.abs().max()


def test_bits_that_leave_are_equal() -> None:
    class Bits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = BinaryConv2d(32, 48, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(48)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(self.norm(self.conv(x)) >= 0, 1.0, -1.0)

    model, x = Bits().eval(), torch.randn(1, 32, 14, 14)
    nn.init.normal_(model.norm.bias)
    np.testing.assert_array_equal(fc.compile(model, (x,))(x).numpy(), model(x).numpy())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BinaryConv2d(8, 8, 3, activation="sing"), "quantizer 'sing' is not known; known are .*sign"),
        (lambda: BinaryConv2d(8, 8, 3, activation_bits=2), "bits is 2; allowed for Sign: 1"),
        (lambda: BinaryConv2d(8, 8, 3, weight="lsq", weight_bits=9), "bits is 9; allowed for LsqWeights: 1 to 8"),
        (lambda: BinaryConv2d(8, 8, 3, weight="lsq", weight_bits=True), "bits is True"),
        (
            lambda: BinaryConv2d.from_conv(nn.Conv2d(8, 8, 3), fc.Bitserial(activation_bits=2)),
            "hand over calibration",
        ),
        (lambda: BinaryConv2d.from_conv(nn.ConvTranspose2d(8, 8, 3), fc.Bitserial()), "it is a ConvTranspose2d"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(make: Any, message: str) -> None:
    with pytest.raises(fc.MethodError, match=message):
        make()


@pytest.mark.parametrize("layer", ["conv2d", "linear"])
@pytest.mark.parametrize("weight", ["sign", "xnor", "dorefa", "lsq"])
@pytest.mark.parametrize(
    ("activation", "magnitude"),
    [("sign", False), ("approximate_sign", True), ("shifted_sign", False), ("signed_lsq", False)],
)
def test_on_packed_bits_results_and_gradients_are_the_same(
    layer: str, weight: str, activation: str, magnitude: bool
) -> None:
    options = {"weight": weight, "activation": activation, "magnitude": magnitude}
    if layer == "conv2d":
        made, x = BinaryConv2d(19, 33, 3, 2, padding=1, **options), torch.randn(2, 19, 7, 7)
    else:
        made, x = BinaryLinear(50, 33, **options), torch.randn(4, 3, 50)
    x.requires_grad_()
    slopes, found = torch.randn(made(x).shape), []
    for on in (False, True):
        use_xnor_(made, on)
        made.zero_grad()
        x.grad = None
        got = made(x)
        assert ("Xnor" in _graph(got)) == on
        (got * slopes).sum().backward()
        found.append([got, x.grad, *(part.grad for part in made.parameters())])
    for plain, packed in zip(*found, strict=True):
        assert_close(packed, plain, 2e-6)  # the same sums, scaled before or behind adding


def _graph(value: torch.Tensor) -> str:
    """Names of the functions that made ``value``, as far as gradients flow."""
    names, waiting = "", [value.grad_fn]
    while waiting:
        node = waiting.pop()
        names += node.name()
        waiting.extend(before for before, _ in node.next_functions if before is not None)
    return names


@pytest.mark.parametrize(
    "layer",
    [
        BinaryConv2d(8, 8, 3, groups=2),
        BinaryConv2d(8, 8, 3, padding=1, padding_mode="reflect"),
        BinaryConv2d(8, 8, 2, padding="same"),
        BinaryConv2d(8, 8, 3, activation="lsq"),
        BinaryConv2d(8, 8, 3, weight="lsq", weight_bits=2),
    ],
    ids=["groups", "reflect", "same", "levels from 0", "two bits"],
)
def test_layers_that_bits_do_not_suit_compute_as_before(layer: BinaryConv2d) -> None:
    x = torch.randn(1, 8, 6, 6)
    want = layer(x)
    use_xnor_(layer)
    got = layer(x)
    assert "Xnor" not in _graph(got)
    assert torch.equal(got, want)


def test_before_a_schedule_quantizes_nothing_runs_on_bits() -> None:
    layer, x = BinaryConv2d(8, 8, 3), torch.randn(1, 8, 6, 6)
    use_xnor_(layer)
    layer.quantizes_weight = False
    assert "Xnor" not in _graph(layer(x))


def test_layers_on_bits_export_as_others() -> None:
    layer, x = BinaryConv2d(32, 8, 3), torch.randn(1, 32, 6, 6)
    use_xnor_(layer)
    exported = torch.export.export(layer.eval(), (x,))
    assert_close(exported.module()(x), layer(x), 2e-6)


def test_without_tvm_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(fc.MethodError, match="compiled by TVM, which is not installed; run: pip install"):
        use_xnor_(BinaryConv2d(8, 8, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layer", ["conv2d", "linear"])
def test_on_packed_bits_the_dtype_is_that_of_the_input(layer: str, dtype: torch.dtype) -> None:
    if layer == "conv2d":
        made, x = BinaryConv2d(19, 8, 3).to(dtype), torch.randn(2, 19, 7, 7, dtype=dtype)
    else:
        made, x = BinaryLinear(50, 8).to(dtype), torch.randn(4, 50, dtype=dtype)
    want = made(x)
    use_xnor_(made)
    got = made(x)
    assert got.dtype == want.dtype == dtype
    # Scaled sums of up to 171 products in the dtype itself, of 8 bits at the least.
    assert_close(got.float(), want.float(), 2e-2)


def test_images_without_a_batch_and_no_images_compute_as_before() -> None:
    layer = BinaryConv2d(8, 4, 3)
    one, none = torch.randn(8, 6, 6), torch.zeros(0, 8, 6, 6)
    want = layer(one), layer(none)
    use_xnor_(layer)
    assert torch.equal(layer(one), want[0])
    assert layer(none).shape == want[1].shape == (0, 4, 4, 4)


def test_two_bits_of_a_weight_of_zeros_are_finite() -> None:
    quantize = make_quantizer(WEIGHTS, "dorefa", 2, 3)
    assert quantize(torch.zeros(3, 4)).isfinite().all()
