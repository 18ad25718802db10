"""The five chains: what they compute, what they start from, how they are drawn, what the compiler makes of them."""

from typing import Any

import pytest
import torch
from torch import nn

import tvm_fastconv as fc
from tests.choices import ZEN_4, choices
from tests.close import assert_close
from tvm_fastconv.decompose.fixed_stencil import STENCILS
from tvm_fastconv.train.layers import (
    CPConv2d,
    DepthwiseSeparableConv2d,
    FixedStencilConv2d,
    SpatialSeparableConv2d,
    TuckerConv2d,
)
from tvm_fastconv.train.layers.chain_conv2d import ChainConv2d
from tvm_fastconv.train.layers.fixed_stencil_conv2d import FixedStencils

EXACT: dict[type[ChainConv2d], Any] = {
    CPConv2d: fc.CP(rank=999),
    TuckerConv2d: fc.Tucker(ranks=(999, 999)),
    SpatialSeparableConv2d: fc.SpatialSeparable(rank=999),
    DepthwiseSeparableConv2d: fc.DepthwiseSeparable(multiplier=999),
}
"""Ranks at which nothing of the weight is lost."""

PARTS = {
    "cp": (CPConv2d, {"rank": 5}, fc.CP(rank=5), ["input", "column", "row", "output"]),
    "tucker": (TuckerConv2d, {"ranks": (4, 3)}, fc.Tucker(ranks=(4, 3)), ["input", "core", "output"]),
    "spatial": (SpatialSeparableConv2d, {"rank": 2}, fc.SpatialSeparable(rank=2), ["column", "row"]),
    "separable": (
        DepthwiseSeparableConv2d,
        {"multiplier": 2},
        fc.DepthwiseSeparable(multiplier=2),
        ["depthwise", "pointwise"],
    ),
    "fixed": (FixedStencilConv2d, {}, fc.FixedStencil(), ["stencils", "pointwise"]),
}

GEOMETRIES: list[dict[str, Any]] = [
    {},
    {"stride": (2, 1), "padding": (1, 2), "bias": False},
    {"dilation": (1, 2), "padding": 2},
    {"padding": "same", "padding_mode": "reflect"},
    {"padding": (1, 2), "padding_mode": "circular", "stride": 2},
]


def _close(got: torch.Tensor, want: torch.Tensor) -> None:
    # 1e-5: factors in float32, sums of some 100 products in another order
    assert got.shape == want.shape
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("kernel", [(3, 3), (5, 3), (1, 3), (2, 4)])
@pytest.mark.parametrize("layer", EXACT)
def test_at_full_rank_it_is_the_convolution_it_came_from(
    layer: type[ChainConv2d], kernel: tuple[int, int], geometry: dict[str, Any]
) -> None:
    conv, x = nn.Conv2d(6, 7, kernel, **geometry), torch.randn(2, 6, 12, 13)
    made = layer.from_conv(conv, EXACT[layer])
    assert made.error is not None
    assert made.error < 1e-6
    _close(made(x), conv(x))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_what_stencils_can_say_they_say(geometry: dict[str, Any]) -> None:
    conv, x = nn.Conv2d(6, 7, 3, **geometry), torch.randn(2, 6, 12, 13)
    mix = torch.randn(7, 6, len(STENCILS))
    conv.weight.data = torch.einsum("ocs,syx->ocyx", mix, torch.from_numpy(STENCILS))
    _close(FixedStencilConv2d.from_conv(conv)(x), conv(x))


@pytest.mark.parametrize(("layer", "arguments", "config", "stages"), PARTS.values(), ids=PARTS)
def test_it_is_built_as_a_convolution_is(
    layer: type[ChainConv2d], arguments: dict[str, Any], config: Any, stages: list[str]
) -> None:
    made = layer(8, 9, 3, 2, 1, 1, 1, True, dtype=torch.float64, **arguments)
    dense = nn.Conv2d(8, 9, 3, 2, 1, dtype=torch.float64)
    x = torch.randn(2, 8, 11, 10, dtype=torch.float64)
    assert made(x).shape == dense(x).shape
    assert [name for name, _ in made.named_children()] == stages
    assert [name for name, _ in made.named_parameters() if name.endswith("bias")] == [f"{stages[-1]}.bias"]
    assert (made.in_channels, made.out_channels, made.kernel_size, made.stride) == (8, 9, (3, 3), (2, 2))
    from_dense = layer.from_conv(dense, config)
    assert {name: value.shape for name, value in made.state_dict().items()} == {
        name: value.shape for name, value in from_dense.state_dict().items()
    }
    fresh = layer.fresh(dense, config)
    assert {name: value.dtype for name, value in fresh.state_dict().items()} == {
        name: value.dtype for name, value in from_dense.state_dict().items()
    }


@pytest.mark.parametrize(("layer", "arguments"), [part[:2] for part in PARTS.values()], ids=PARTS)
def test_noise_comes_out_as_large_as_of_a_dense_layer(
    layer: type[ChainConv2d], arguments: dict[str, Any]
) -> None:
    wide = {"rank": 64} if layer is CPConv2d else {"ranks": (48, 48)} if layer is TuckerConv2d else arguments
    x = torch.randn(4, 64, 20, 20)
    with torch.no_grad():
        sizes = [make(64, 64, 3, **extra)(x).std() for make, extra in ((layer, wide), (nn.Conv2d, {}))]
    assert 0.7 < sizes[0] / sizes[1] < 1.4  # PyTorch's own first weights in all stages: 0.19 to 0.58


@pytest.mark.parametrize(("layer", "_arguments", "config"), [part[:3] for part in PARTS.values()], ids=PARTS)
def test_the_compiler_knows_it(layer: type[ChainConv2d], _arguments: Any, config: Any, request: Any) -> None:
    conv, x = nn.Conv2d(32, 32, 3, padding=1), torch.randn(1, 32, 14, 14)
    model = nn.Sequential(nn.Conv2d(32, 32, 1), nn.ReLU(), layer.from_conv(conv, config)).eval()
    found = [layer for layer in choices(model, (x,), ZEN_4).layers if layer.name != "0"]
    assert {layer.method for layer in found} == {request.node.callspec.id}
    compiled = fc.compile(model, (x,), target="native")
    # 2e-5: what every compiled layer keeps to
    want = model(x).detach()
    assert (compiled(x) - want).abs().max() <= 2e-5 * want.abs().max()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CPConv2d(8, 8, 3, rank=0), "rank is 0; allowed: 1 or more"),
        (lambda: TuckerConv2d(8, 8, 3, ranks=(0, 4)), r"ranks\[0\] is 0"),
        (lambda: SpatialSeparableConv2d(8, 8, 3, groups=2), "groups is 2; allowed for SpatialSeparableConv2d: 1"),
        (lambda: FixedStencilConv2d(8, 8, 5), "the kernel is 5×5; allowed: 3×3"),
        (lambda: CPConv2d.from_conv(nn.Conv2d(8, 8, 3), fc.FixedStencil()), "no config of CPConv2d; allowed: fc.CP"),
        (lambda: CPConv2d.from_conv(nn.Conv2d(8, 8, 3), fc.CP(ratio=0.01)), "one term has 0.038 of the parameters"),
        (lambda: CPConv2d.fresh(nn.Conv2d(8, 8, 3), fc.CP(ratio=0.01)), "one term has 0.038 of the parameters"),
        (lambda: CPConv2d.fresh(nn.Conv2d(8, 8, 3), fc.CP(error=0.5)), "error is 0.5; allowed for a layer with"),
        (lambda: CPConv2d.from_conv(nn.ConvTranspose2d(8, 8, 3), fc.CP(rank=2)), "it is a ConvTranspose2d"),
        (lambda: CPConv2d.from_conv(nn.Conv2d(8, 8, 3, device="meta"), fc.CP(rank=2)), "on the meta device"),
        (lambda: FixedStencilConv2d.from_conv(nn.Conv2d(8, 8, 3, groups=8)), "groups is 8"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(make: Any, message: str) -> None:
    with pytest.raises(fc.MethodError, match=message):
        make()


def test_a_weight_that_is_computed_is_refused() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3))
    with pytest.raises(fc.MethodError, match=r"its weight is computed|it is a Parametrized"):
        CPConv2d.from_conv(conv, fc.CP(rank=2))


def test_half_precision_and_frozen_layers_stay_so() -> None:
    conv = nn.Conv2d(8, 8, 3, dtype=torch.bfloat16).eval()
    conv.weight.requires_grad_(False)
    made = TuckerConv2d.from_conv(conv, fc.Tucker(ranks=(4, 4)))
    assert {parameter.dtype for parameter in made.parameters()} == {torch.bfloat16}
    assert [name for name, p in made.named_parameters() if p.requires_grad] == ["output.bias"]
    assert not made.training
    assert torch.equal(made.output.bias, conv.bias)


def test_a_ratio_bounds_the_parameters_of_a_fresh_layer() -> None:
    conv = nn.Conv2d(16, 24, 3, bias=False)
    made = CPConv2d.fresh(conv, fc.CP(ratio=0.25))
    count = sum(parameter.numel() for parameter in made.parameters())
    assert 0.25 - 46 / conv.weight.numel() < count / conv.weight.numel() <= 0.25


def test_the_activation_stands_between_depthwise_and_pointwise() -> None:
    layer = DepthwiseSeparableConv2d(5, 6, 3, padding=1, activation=True).eval()
    x = torch.randn(2, 5, 9, 8)
    nn.init.normal_(layer.norm.bias)
    planes = nn.functional.conv2d(x, layer.depthwise.weight, padding=1, groups=5)
    middle = torch.relu(planes / (1 + layer.norm.eps) ** 0.5 + layer.norm.bias[:, None, None])
    want = torch.einsum("oc,nchw->nohw", layer.pointwise.weight[:, :, 0, 0], middle)
    torch.testing.assert_close(layer(x), want + layer.pointwise.bias[:, None, None])


KERNELS = [
    [[1, 2, 1], [2, 4, 2], [1, 2, 1]],
    [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
    [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
    [[1, 0, -1], [0, 0, 0], [-1, 0, 1]],
    [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
]


def test_every_channel_is_filtered_by_every_published_stencil() -> None:
    x = torch.randint(-8, 8, (2, 3, 8, 7)).float()  # small integers: sums are exact in any order
    for stride, padding in ((1, 1), (2, 1), (1, 0)):
        got = FixedStencils(3, 15, 3, stride, padding, groups=3)(x)
        for channel in range(3):
            for index, kernel in enumerate(KERNELS):
                one = x[:, channel : channel + 1]
                want = nn.functional.conv2d(one, torch.tensor([[kernel]]).float(), None, stride, padding)
                assert torch.equal(got[:, 5 * channel + index], want[:, 0])


def test_stencils_do_not_train_and_no_initialization_finds_them() -> None:
    layer = FixedStencilConv2d(4, 6, 3, padding=1)
    assert [name for name, _ in layer.named_parameters()] == ["pointwise.weight", "pointwise.bias"]
    assert [type(part) for part in layer.modules() if isinstance(part, nn.Conv2d)] == [nn.Conv2d]
    pointwise = layer.pointwise.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.requires_grad_(True).parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        layer(torch.randn(2, 4, 8, 8)).square().mean().backward()
        optimizer.step()
    assert torch.equal(layer.stencils.weight, torch.tensor(KERNELS).float().repeat(4, 1, 1)[:, None])
    assert not torch.equal(layer.pointwise.weight, pointwise)


def test_noise_comes_out_of_each_stencil_equally_large() -> None:
    layer = FixedStencilConv2d(64, 512, 3, bias=False)
    with torch.no_grad():
        planes = layer.stencils(torch.randn(16, 64, 34, 34))
        weight = layer.pointwise.weight.view(512, 64, 5)
        sizes = [
            torch.einsum("oc,nchw->nohw", weight[:, :, index], planes[:, index::5]).std()
            for index in range(5)
        ]
    assert max(sizes) / min(sizes) < 1.05  # of 32 768 drawn weights each; unscaled 6


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 1},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "reflect"},
        {"dilation": 2, "padding": 2, "bias": False},
    ],
    ids=str,
)
def test_stencils_in_training_are_one_convolution_of_the_same_function(options: dict[str, Any]) -> None:
    layer, x = FixedStencilConv2d(7, 9, 3, **options), torch.randn(2, 7, 12, 11, requires_grad=True)
    slopes, found = torch.randn(layer(x).shape), []
    for training in (True, False):
        layer.train(training).zero_grad()
        x.grad = None
        got = layer(x)
        (got * slopes).sum().backward()
        found.append([got, x.grad, *(part.grad for part in layer.parameters())])
    for one, chain in zip(*found, strict=True):
        assert_close(one, chain, 2e-6)  # sums of up to 315 products, in another order
