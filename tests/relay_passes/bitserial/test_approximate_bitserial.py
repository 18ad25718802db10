import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tvm_fastconv as fc

from ...choices import HASWELL, ZEN_4, choices
from ...close import assert_close


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 40, 3), nn.ReLU(), nn.Conv2d(40, 64, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(576, 7)
    ).eval()  # fmt: skip


def _xnor(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """XNOR-Net's convolution, written down once more."""
    scale = conv.weight.abs().mean((1, 2, 3), keepdim=True)
    how = {"stride": conv.stride, "padding": conv.padding, "groups": conv.groups}
    mean = torch.full_like(conv.weight, 1 / conv.weight[0].numel())
    signs = torch.where(x >= 0, 1.0, -1.0)
    sums = F.conv2d(signs, scale * torch.sign(conv.weight), **how) * F.conv2d(x.abs(), mean, **how)
    return sums + conv.bias.reshape(1, -1, 1, 1)


def test_a_layer_asked_for_becomes_xnor_net_s() -> None:
    model, x = _model(), torch.randn(2, 3, 8, 8)
    compiled = fc.compile(model, (x,), methods={"2": fc.Bitserial()})
    report = {layer.name: layer for layer in compiled.layers}
    assert report["2"].method == "bitserial"
    assert "approximated: the weights are off by" in report["2"].reason
    assert [report[name].method for name in ("0", "4")] == ["dense", "dense"]
    assert report["2.magnitude"].reason == "helper of 2: the mean of |x| under each window"
    with torch.no_grad():
        want = model[4](model[3](_xnor(model[2], model[1](model[0](x)))))
    assert_close(compiled(x), want, 1e-5)  # float32 sums in another order


@pytest.mark.parametrize(("channels", "groups"), [(64, 2), (40, 40)])
def test_each_group_has_a_magnitude_of_its_own(channels: int, groups: int) -> None:
    conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=groups)
    x = torch.randn(2, channels, 9, 8) * torch.linspace(0.1, 10, channels).reshape(1, -1, 1, 1)
    with torch.no_grad():
        want = _xnor(conv, x)
    got = fc.compile(nn.Sequential(conv).eval(), (x,), methods=fc.Bitserial())(x)
    assert_close(got, want, 1e-5)  # float32 sums in another order


def test_binary_weights_of_a_float_input_are_kept() -> None:
    conv, x = nn.Conv2d(40, 64, 3), torch.randn(2, 40, 8, 8)
    with torch.no_grad():
        conv.weight.copy_(0.5 * torch.sign(conv.weight))
        want = _xnor(conv, x)
    compiled = fc.compile(nn.Sequential(conv).eval(), (x,), methods=fc.Bitserial())
    assert compiled.layers[-1].reason.startswith(
        "approximated: the input is its sign times its mean magnitude"
    )
    assert_close(compiled(x), want, 1e-5)  # float32 sums in another order


def test_a_binary_input_of_float_weights_is_kept() -> None:
    conv, x = nn.Conv2d(40, 64, 3, padding=1), torch.randn(2, 40, 8, 8)
    compiled = fc.compile(nn.Sequential(_Sign(), conv).eval(), (x,), methods=fc.Bitserial())
    assert [layer.name for layer in compiled.layers] == ["1"]
    with torch.no_grad():
        scale = conv.weight.abs().mean((1, 2, 3), keepdim=True)
        want = F.conv2d(_Sign()(x), scale * torch.sign(conv.weight), conv.bias, padding=1)
    assert_close(compiled(x), want, 1e-5)  # float32 sums in another order


def test_linear_layers_and_more_weight_bits() -> None:
    model, x = _model(), torch.randn(2, 3, 8, 8)
    one, four = (
        fc.compile(model, (x,), methods={"4": fc.Bitserial(weight_bits=bits)}).layers[-1] for bits in (1, 4)
    )
    assert one.op == four.op == "bitserial_conv2d"
    assert four.operations == 4 * one.operations


def test_what_is_binary_already_is_not_touched() -> None:
    model, x = _model(), torch.randn(1, 3, 8, 8)
    model[1] = nn.Hardtanh()
    with torch.no_grad():
        model[2].weight.copy_(torch.sign(model[2].weight))
    model.insert(2, _Sign())
    exact = fc.compile(model, (x,))
    asked = fc.compile(model, (x,), methods={"3": fc.Bitserial()})
    assert "approximated" not in asked.layers[1].reason
    # 1e-6: left alone, another processor may run it in floats, and sums then in another order
    assert_close(asked(x), exact(x), 1e-6)


class _Sign(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x >= 0, 1.0, -1.0)


def test_dense_keeps_a_binary_layer_dense() -> None:
    model, x = nn.Sequential(_Sign(), nn.Conv2d(40, 64, 3)).eval(), torch.randn(1, 40, 8, 8)
    with torch.no_grad():
        model[1].weight.copy_(torch.sign(model[1].weight))
    assert [layer.method for layer in fc.compile(model, (x,)).layers] == ["bitserial"]
    assert [layer.method for layer in fc.compile(model, (x,), methods=fc.Dense()).layers] == ["dense"]


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.Conv2d(40, 48, 3, groups=4), "groups of 12 output channels do not fill vectors"),
        (nn.ConvTranspose2d(40, 32, 3), "transposed convolutions do not run on bits"),
    ],
)
def test_what_cannot_be_done_is_said(layer: nn.Module, why: str) -> None:
    model, x = nn.Sequential(layer).eval(), torch.randn(1, 40, 8, 8)
    with pytest.raises(fc.MethodError, match=f"layer '0' cannot run on bits: {why}"):
        choices(model, (x,), ZEN_4, {"0": fc.Bitserial()})


def test_more_planes_than_registers_are_said() -> None:
    class EightBits(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(torch.round(x.clamp(0, 1) * 255) / 255)

    model, x = EightBits(40, 16, 3).eval(), torch.randn(1, 40, 8, 8)
    with torch.no_grad():
        model.weight.copy_(2 * torch.randint(-128, 128, model.weight.shape) + 1)
    why = "8 bits of input times 8 weight planes do not fit the registers"
    with pytest.raises(fc.MethodError, match=why):
        choices(model, (x,), HASWELL, fc.Bitserial(weight_bits=8))


@pytest.mark.parametrize("wrong", [{"weight_bits": 0}, {"weight_bits": True}, {"activation_bits": 9}])
def test_wrong_parameters(wrong: dict) -> None:
    with pytest.raises(fc.MethodError, match="allowed: 1"):
        fc.Bitserial(**wrong)


def test_more_bits_of_activations_need_calibration() -> None:
    model, x = nn.Sequential(nn.Conv2d(8, 8, 3)).eval(), torch.randn(1, 8, 6, 6)
    why = "layer '0' cannot be as asked: activation_bits is 2, .*compress_ the model with calibration first"
    with pytest.raises(fc.MethodError, match=why):
        choices(model, (x,), HASWELL, fc.Bitserial(activation_bits=2))
