"""Few-level layers written in every way we know, from PyTorch to the answer of the compiled file."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tvm_fastconv as fc
from tvm_fastconv.runtime.cpu import missing_features
from tvm_fastconv.targets import cpu_features, resolve_target

from ...choices import ZEN_4, Choices, choices
from ...close import assert_close

# Sums are integers; scales and biases are applied in float32, in another order than PyTorch's.
TOLERANCE = 2e-6


X86 = "x86_64-linux-gnu"
SLOPES = torch.rand(1, 40, 1, 1, generator=torch.Generator().manual_seed(0))


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return torch.sign(x)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sign": torch.sign,
    "sign of clamp": lambda x: torch.sign(torch.clamp(x, -1, 1)),
    "sign of hardtanh": lambda x: torch.sign(F.hardtanh(x)),
    "autograd function": _Sign.apply,
    "where": lambda x: torch.where(x >= 0, 1.0, -1.0),
    "where, tensors": lambda x: torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x)),
    "where greater": lambda x: torch.where(x > 0.25, 1.0, -1.0),
    "where less": lambda x: torch.where(x < 0, -1.0, 1.0),
    "where, mirrored": lambda x: torch.where(torch.tensor(0.5) <= x, 2.0, -2.0),
    "where, turned": lambda x: torch.where(x >= 0, -1.0, 1.0),
    "float * 2 - 1": lambda x: (x >= 0).float() * 2 - 1,
    "difference of floats": lambda x: (x >= 0).float() - (x < 0).float(),
    "straight through": lambda x: (
        torch.sign(x).detach() - torch.clamp(x, -1, 1).detach() + torch.clamp(x, -1, 1)
    ),
    "straight through, other order": lambda x: x + (torch.sign(x) - x).detach(),
    "0 and 1": lambda x: (x > 0).float(),
    "sign of relu": lambda x: torch.sign(F.relu(x)),
    "2 bits": lambda x: torch.round(torch.clamp(x, 0, 1) * 3) / 3,
    "2 bits, clamped after": lambda x: torch.clamp(torch.round(x * 3), 0, 3) / 3,
    "2 bits, divided": lambda x: torch.clamp(torch.round(x / 0.001), 0, 3) * 0.001,
    "3 bits, signed": lambda x: torch.clamp(torch.round(x / 0.25), -4, 3) * 0.25,
    "shifted": lambda x: torch.sign(x + torch.linspace(-1, 1, 40).reshape(1, 40, 1, 1)),
    "scaled, negative too": lambda x: torch.sign(x * torch.linspace(-1, 1, 40).reshape(1, 40, 1, 1) - 0.1),
}

WEIGHTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sign": torch.sign,
    "scale per filter": lambda w: w.abs().mean((1, 2, 3), keepdim=True) * torch.sign(w),
    "scale per layer": lambda w: w.abs().mean() * torch.sign(w),
    "straight through": lambda w: (
        (w.abs().mean() * torch.sign(w)).detach() - w.clamp(-1, 1).detach() + w.clamp(-1, 1)
    ),
    "ternary": lambda w: torch.sign(w) * (w.abs() > 0.5),
    "ternary, nested": lambda w: torch.where(w > 0.5, 1.0, torch.where(w < -0.5, -1.0, 0.0)),
    "DoReFa, 2 bits": lambda w: (
        2 * torch.round((torch.tanh(w) / torch.tanh(w).abs().max() / 2 + 0.5) * 3) / 3 - 1
    ),
}


class _Layer(nn.Module):
    def __init__(self, activation: Callable, weights: Callable, **how) -> None:
        super().__init__()
        self.activation, self.weights, self.how = activation, weights, how
        self.weight = nn.Parameter(torch.randn(24, 40 // how.get("groups", 1), 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(self.activation(x), self.weights(self.weight), **self.how)


class _Depthwise(_Layer):
    def __init__(self, activation: Callable, channels: int) -> None:
        super().__init__(activation, WEIGHTS["scale per filter"], groups=channels)
        self.weight = nn.Parameter(torch.randn(channels, 1, 3, 3))


def _native_if(marked: bool, value: object) -> object:
    return pytest.param(value, marks=pytest.mark.native) if marked else value


def _compiled(model: nn.Module, x: torch.Tensor, **how) -> fc.CompiledModel:
    """Compiled, and checked against PyTorch."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="sign")
        compiled = fc.compile(model.eval(), (x,), **how)
    # Whole networks too: inputs are random, none lies within float noise of a threshold.
    assert_close(compiled(x), model(x), TOLERANCE)
    return compiled


def _ways(model: nn.Module, x: torch.Tensor) -> list[tuple[str, str]]:
    """How each layer runs on Zen 4."""
    return [(layer.method, layer.op) for layer in choices(model.eval(), (x,), ZEN_4).layers]


def _functions(found: Choices) -> list[str]:
    kinds = (
        "bitpack",
        "bitserial_conv",
        "bitserial_depthwise",
        "bit_max_pool",
        "transpose",
        "conv2d",
        "winograd_conv2d",
        "dense",
    )
    names = [name for name in found.functions if name != "reshape"]  # a view, which is no call at run time
    return [next((kind for kind in kinds if name.startswith(kind)), name) for name in names]


# What is read from the graph is the same for every CPU; how layers of several bits run is not.
@pytest.mark.parametrize("name", [_native_if("bits" in name, name) for name in ACTIVATIONS])
def test_activations(name: str) -> None:
    model, x = _Layer(ACTIVATIONS[name], torch.sign, padding=1), torch.randn(2, 40, 7, 9)
    assert [layer.method for layer in _compiled(model, x).layers] == ["bitserial"]
    assert _ways(model, x) == [("bitserial", "bitserial_conv2d")]


@pytest.mark.parametrize(
    "name", [_native_if(name in ("ternary", "DoReFa, 2 bits"), name) for name in WEIGHTS]
)
def test_weights(name: str) -> None:
    model, x = _Layer(torch.sign, WEIGHTS[name], padding=1), torch.randn(2, 40, 7, 9)
    assert [layer.method for layer in _compiled(model, x).layers] == ["bitserial"]
    assert _ways(model, x) == [("bitserial", "bitserial_conv2d")]


@pytest.mark.native
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_borders_of_any_level(value: float) -> None:
    def bordered(x: torch.Tensor) -> torch.Tensor:
        return F.pad(torch.where(x >= 0, 1.0, -1.0), (1, 2, 3, 0), value=value)

    compiled = _compiled(_Layer(bordered, torch.sign), torch.randn(2, 40, 7, 9))
    assert compiled.layers[0].method == "bitserial"


@pytest.mark.parametrize(
    ("activation", "weights", "reason"),
    [
        (torch.sign, lambda w: torch.sign(w) * SLOPES, "magnitudes"),
        (lambda x: torch.where(x >= 0, 1.0, -0.3), torch.sign, "no multiples of half their distance"),
    ],
)
def test_what_is_not_quite_binary_stays_dense_and_says_why(activation, weights, reason: str) -> None:
    (layer,) = _compiled(_Layer(activation, weights, padding=1), torch.randn(2, 40, 7, 9)).layers
    assert layer.method == "dense"
    assert reason in layer.reason


@pytest.mark.parametrize("activation", [torch.tanh, lambda x: torch.round(x * 3) / 3, F.relu])
def test_what_has_no_levels_is_left_alone(activation) -> None:
    (layer,) = _compiled(_Layer(activation, torch.sign, padding=1), torch.randn(2, 40, 7, 9)).layers
    assert layer.method == "dense"


class _Binary(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.weight.abs().mean((1, 2, 3), keepdim=True)
        return self._conv_forward(torch.sign(x), torch.sign(self.weight) * scale, self.bias)


class _BinaryLinear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(torch.sign(x), torch.sign(self.weight), self.bias)


class _Block(nn.Module):
    """A residual block with shifts before the sign and around PReLU, as ReActNet has."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shifts = nn.ParameterList(torch.randn(1, channels, 1, 1) for _ in range(3))
        self.conv = _Binary(channels, channels, 3, padding=1, bias=False)
        self.norm, self.prelu = _norm(channels), nn.PReLU(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x + self.shifts[0])) + x
        return self.prelu(y + self.shifts[1]) + self.shifts[2]


def _norm(channels: int, kind: type = nn.BatchNorm2d) -> nn.Module:
    """Trained, with negative scales and one that is zero."""
    norm = kind(channels)
    norm.running_mean.normal_(0, 2)
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.weight.data[0] = 0
    return norm


CHAINS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "batch norm": (
        lambda: nn.Sequential(_Binary(40, 48, 3, padding=1), _norm(48), _Binary(48, 33, 3, stride=2)),
        (2, 40, 9, 9),
        ["bitpack", "bitserial_conv", "bitserial_conv", "transpose"],
    ),
    "hardtanh and PReLU": (
        lambda: nn.Sequential(
            _Binary(32, 64, 3), _norm(64), nn.Hardtanh(), _Binary(64, 64, 3), _norm(64), nn.PReLU(64), _Binary(64, 8, 1)
        ),
        (1, 32, 9, 9),
        ["bitpack", "bitserial_conv", "bitserial_conv", "bitserial_conv", "transpose"],
    ),
    "max pooling": (
        lambda: nn.Sequential(
            _Binary(32, 64, 3), nn.MaxPool2d(2), _norm(64), _Binary(64, 64, 3, padding=1), _norm(64),
            nn.MaxPool2d(3, 2, 1), _Binary(64, 8, 1),
        ),
        (1, 32, 12, 12),
        ["bitpack", "bitserial_conv", "bit_max_pool", "bitserial_conv", "bit_max_pool", "bitserial_conv",
         "transpose"],
    ),
    "groups": (
        lambda: nn.Sequential(_Binary(128, 128, 3, padding=(2, 1), dilation=2, groups=2), _norm(128),
                              _Binary(128, 96, 3, groups=2)),
        (1, 128, 9, 9),
        ["bitpack", "bitserial_conv", "bitserial_conv", "transpose"],
    ),
    "depthwise": (
        lambda: nn.Sequential(
            _Binary(40, 70, 1), _norm(70), _Binary(70, 70, 3, padding=(2, 1), stride=2, groups=70), _norm(70),
            _Binary(70, 33, 1), _norm(33), _Binary(33, 33, (3, 1), groups=33, bias=False), _norm(33), _Binary(33, 8, 1),
        ),
        (2, 40, 9, 11),
        ["bitpack", "bitserial_conv", "bitserial_depthwise", "bitserial_conv", "bitserial_depthwise", "bitserial_conv",
         "transpose"],
    ),
    "linear": (
        lambda: nn.Sequential(_BinaryLinear(300, 100), _norm(100, nn.BatchNorm1d), _BinaryLinear(100, 10)),
        (5, 300),
        ["bitpack", "bitserial_conv", "bitserial_conv", "reshape1_add"],
    ),
}  # fmt: skip


@pytest.mark.native
@pytest.mark.parametrize("name", CHAINS)
def test_between_two_layers_there_are_only_bits(name: str) -> None:
    make, shape, functions = CHAINS[name]
    model, x = make(), torch.randn(shape)
    assert {layer.method for layer in _compiled(model, x).layers} == {"bitserial"}
    assert _functions(choices(model, (x,), ZEN_4)) == functions


@pytest.mark.native
def test_residual_blocks() -> None:
    x = torch.randn(1, 3, 12, 12)
    compiled = _compiled(nn.Sequential(nn.Conv2d(3, 64, 3), _Block(64), _Block(64)), x)
    assert [layer.method for layer in compiled.layers] == ["dense", "bitserial", "bitserial"]


@pytest.mark.parametrize(("outputs", "kernel"), [(2, 3), (1, 9)])
def test_a_layer_too_narrow_for_words_runs_dense(outputs: int, kernel: int) -> None:
    model, x = (
        nn.Sequential(_Binary(32, 32 * outputs, kernel, padding=1, groups=32)),
        torch.randn(1, 32, 12, 12),
    )
    _compiled(model, x)
    (layer,) = choices(model, (x,), ZEN_4).layers
    assert (layer.method, layer.op) == ("bitserial", "depthwise_conv2d")
    assert f"groups of {outputs} output channels do not fill vectors" in layer.reason


@pytest.mark.parametrize("value", [_native_if(True, 0.0), 1.0, -1.0])
@pytest.mark.parametrize("name", ["sign", "where, turned", "0 and 1", "shifted"])
def test_depthwise(name: str, value: float) -> None:
    def bordered(x: torch.Tensor) -> torch.Tensor:
        return F.pad(ACTIVATIONS[name](x), (1, 2, 3, 0), value=value)

    model, x = _Depthwise(bordered, 40), torch.randn(2, 40, 7, 9)
    (layer,) = _compiled(model, x, methods=fc.Bitserial()).layers
    assert (layer.method, layer.op) == ("bitserial", "bitserial_depthwise_conv2d")


def test_a_depthwise_layer_that_is_faster_in_floats_says_so() -> None:
    x = torch.randn(1, 40, 9, 9)
    (layer,) = _compiled(_Depthwise(torch.sign, 40), x, target="x86_64-linux-gnu -mcpu=x86-64-v3").layers
    assert (layer.method, layer.op) == ("bitserial", "depthwise_conv2d")
    assert "in floats" in layer.reason


def test_a_depthwise_layer_in_floats_writes_bits_where_nobody_reads_the_floats() -> None:
    model = nn.Sequential(_Depthwise(torch.sign, 64), _norm(64), _Binary(64, 64, 1, groups=2), _norm(64))
    x = torch.randn(2, 64, 9, 9)
    layers = _compiled(model, x, target="x86_64-linux-gnu -mcpu=x86-64-v3").layers
    assert [layer.op for layer in layers] == ["bitserial_depthwise_conv2d", "bitserial_conv2d"]
    assert "writes bits" in layers[0].reason


@pytest.mark.parametrize("groups", [1, 4])
def test_floats_of_a_depthwise_layer_that_others_read_too(groups: int) -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = _Depthwise(torch.sign, 40), _Binary(40, 40, 1, groups=groups)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            return self.second(y) + y

    for target in ("native", "x86_64-linux-gnu -mcpu=x86-64-v3"):
        layers = _compiled(Residual(), torch.randn(1, 40, 9, 9), target=target).layers
        assert [layer.name for layer in layers] == ["first", "second"]


@pytest.mark.parametrize("offset", [0, 3])
def test_many_levels_run_as_dot_products_of_bytes(offset: int) -> None:
    def activation(x: torch.Tensor) -> torch.Tensor:
        return (torch.clamp(torch.round(x / 0.05) + offset, 0, 255) - offset) * 0.05

    def weights(w: torch.Tensor) -> torch.Tensor:
        return torch.clamp(torch.round(w / 0.02), -127, 127) * 0.02

    model, x, target = (
        _Layer(activation, weights, padding=1),
        torch.randn(2, 40, 7, 9),
        f"{X86} -mcpu=cascadelake",
    )
    (layer,) = choices(model, (x,), target).layers
    assert (layer.method, layer.op) == ("bitserial", "int8_conv2d")
    if missing := missing_features(cpu_features(resolve_target(target))):
        pytest.skip(f"this CPU lacks {', '.join(missing)}")
    _compiled(model, x, target=target)


@pytest.mark.parametrize(
    ("cpu", "levels", "on_bytes"),
    [
        ("cortex-a76", 128, True),  # sdot: both factors are signed
        ("cortex-a76", 256, False),
        ("neoverse-v1", 256, True),  # usdot
        ("cortex-a72", 128, False),
    ],
)
def test_arms_dot_products_take_the_bits_that_they_have(cpu: str, levels: int, on_bytes: bool) -> None:
    model = _Layer(
        lambda x: torch.clamp(torch.round(x / 0.05), 0, levels - 1) * 0.05,
        lambda w: torch.clamp(torch.round(w / 0.02), -127, 127) * 0.02,
        padding=1,
    )
    (layer,) = choices(model, (torch.randn(2, 40, 7, 9),), cpu).layers
    assert (layer.op == "int8_conv2d") == on_bytes


def test_the_sign_of_a_plane_with_zeros_around_it_is_zero_there() -> None:
    model, x = _Layer(lambda x: torch.sign(F.pad(x, (1, 1, 1, 1))), torch.sign), torch.randn(2, 40, 7, 9)
    _compiled(model, x)
    assert _ways(model, x) == [("bitserial", "bitserial_conv2d")]


@pytest.mark.parametrize(
    "activation",
    [
        lambda x: torch.sign(F.relu(x).clamp(max=1)),
        lambda x: torch.sign(F.relu(x) + F.relu(x * x - 1)),
        lambda x: torch.sign(F.max_pool2d(F.relu6(x), 2)),
    ],
)
def test_the_sign_of_what_is_never_negative_is_0_or_1(activation) -> None:
    model, x = _Layer(activation, torch.sign), torch.randn(2, 40, 8, 8)
    _compiled(model, x)
    assert _ways(model, x) == [("bitserial", "bitserial_conv2d")]


@pytest.mark.parametrize(
    "activation",
    [
        lambda x: torch.sign(torch.cat([F.relu(x[:, :20]), x[:, 20:]], 1)),
        lambda x: torch.sign(F.hardswish(x)),
        lambda x: torch.sign(F.pad(F.relu(x), (1, 1, 1, 1), value=-1.0)),
        lambda x: torch.sign(F.hardshrink(x, 0.5)),
        lambda x: torch.sign(F.relu(x) - F.relu(-x - 0.5)),
    ],
)
def test_the_sign_of_what_is_often_zero_keeps_three_levels(activation) -> None:
    (layer,) = _compiled(_Layer(activation, torch.sign), torch.randn(2, 40, 8, 8)).layers
    assert layer.method == "dense"
    assert "three levels" in layer.reason


@pytest.mark.parametrize(
    "activation",
    [
        lambda x: torch.sign(x) + 0.3 * x,
        lambda x: torch.sign(x) * x.cos(),
        lambda x: torch.sign(x) + torch.sign(x - 1),
        lambda x: torch.sign(x) * 0.5 + 0.25,
        lambda x: torch.sign(x) * SLOPES,
        lambda x: torch.round(torch.clamp(torch.sign(x) * 3, -2, 2)),
        lambda x: F.pad(torch.sign(x), (1, 1, 1, 1), value=0.3),
    ],
)
def test_a_sign_stays_where_its_layer_reads_more_than_two_levels_all_the_same(activation) -> None:
    x = torch.randn(2, 40, 8, 8)
    x[:, :, ::2] = 0
    _compiled(_Layer(activation, torch.sign), x)


@pytest.mark.parametrize(
    "activation",
    [
        lambda x: F.max_pool2d(torch.sign(x), 2),
        lambda x: (torch.sign(x) + 1) / 2,
        lambda x: F.pad(-torch.sign(x), (1, 1, 1, 1), value=1.0),
    ],
)
def test_what_may_stand_between_a_sign_and_its_layer(activation) -> None:
    (layer,) = _compiled(_Layer(activation, torch.sign), torch.randn(2, 40, 8, 8)).layers
    assert layer.method == "bitserial"


@pytest.mark.parametrize(
    "activation",
    [
        lambda x: torch.where(x[:, :1] >= SLOPES - 0.5, 1.0, -1.0),
        lambda x: torch.where(x[:, :1] >= 0, torch.ones_like(x), -torch.ones_like(x)),
        lambda x: torch.where(x[:, :1] * (SLOPES - 0.5) >= 0.1, 1.0, -1.0),
        lambda x: torch.where(x.int() >= 0, 1.0, -1.0),
    ],
)
def test_broadcast_and_integer_decisions_are_right_whichever_way_they_run(activation) -> None:
    _compiled(_Layer(activation, torch.sign), torch.randn(2, 40, 8, 8))


def test_common_zeros_in_front_of_a_sign_are_announced() -> None:
    model = nn.Sequential(_Layer(torch.sign, torch.sign), nn.BatchNorm2d(24), _Binary(24, 32, 3)).eval()
    with pytest.warns(UserWarning, match="changes the outputs on the example inputs"):
        fc.compile(model, (torch.randn(1, 40, 9, 9),))


@pytest.mark.native
@pytest.mark.parametrize("groups", [1, 48])
def test_dynamic_batch(groups: int) -> None:
    layers = (
        _Binary(40, 48, 3, padding=1),
        _norm(48),
        _Binary(48, 48, 3, groups=groups),
        _norm(48),
        _Binary(48, 33, 3),
    )
    model = nn.Sequential(*layers).eval()
    program = torch.export.export(
        model, (torch.randn(2, 40, 9, 9),), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=64)},)
    )
    compiled = fc.compile(program)
    for batch in (1, 3):
        x = torch.randn(batch, 40, 9, 9)
        assert_close(compiled(x), model(x), TOLERANCE)


def test_sign_of_zero_is_announced_once() -> None:
    model = nn.Sequential(_Binary(32, 32, 3), _Binary(32, 32, 3)).eval()
    with pytest.warns(UserWarning, match=r"sign\(0\) is taken as \+1 \(in front of 0, 1\)"):
        fc.compile(model, (torch.randn(1, 32, 9, 9),))


def test_planes_are_packed_as_they_come() -> None:
    layer = _Layer(lambda x: torch.sign(x - 0.5), torch.sign, padding=1)
    wide, narrow = torch.randn(2, 40, 9, 9), torch.randn(2, 40, 3, 3)
    for x, functions in (
        (wide, ["bitpack", "bitserial_conv"]),
        (narrow, ["transpose", "bitpack", "bitserial_conv"]),
    ):
        _compiled(layer, x)
        assert _functions(choices(layer, (x,), ZEN_4))[: len(functions)] == functions


@pytest.mark.parametrize("rows", [(), (5,), (5, 3), (2, 3, 5)])
@pytest.mark.parametrize("dynamic", [False, True])
def test_linear_layers_of_any_rank(rows: tuple[int, ...], dynamic: bool) -> None:
    layer, x = nn.Linear(48, 64), torch.randn(2, *rows, 48)
    layer.weight.data.sign_()
    model = nn.Sequential(_Where(), layer).eval()
    sizes = ({0: torch.export.Dim("batch", max=8)},) if dynamic else None
    compiled = fc.compile(torch.export.export(model, (x,), dynamic_shapes=sizes))
    assert [layer.method for layer in compiled.layers] == ["bitserial"]
    for batch in (1, 2, 5) if dynamic else (2,):
        x = torch.randn(batch, *rows, 48)
        assert_close(compiled(x), model(x), 1e-6)  # integer sums plus one float32 bias


def test_binary_transposed_convolutions_say_that_they_stay_dense() -> None:
    layer = nn.ConvTranspose2d(32, 32, 3)
    layer.weight.data.sign_()
    (found,) = fc.compile(nn.Sequential(_Where(), layer).eval(), torch.randn(1, 32, 8, 8)).layers
    assert found.method == "dense"
    assert found.reason == "dense: transposed convolutions do not run on bits"
    (plain,) = fc.compile(nn.ConvTranspose2d(32, 32, 3).eval(), torch.randn(1, 32, 8, 8)).layers
    assert plain.reason == ""


class _Where(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x >= 0, 1.0, -1.0)
