"""Lookup layers: the convolution they are, how weights drop, and that no average brings them back."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import tvm_fastconv as fc
from tests.choices import ZEN_4, choices
from tvm_fastconv.decompose.lookup import lookup
from tvm_fastconv.train.layers import LookupConv2d, LookupLinear
from tvm_fastconv.train.layers.lookup_conv2d import SparseConv2d
from tvm_fastconv.train.layers.lookup_linear import SparseLinear

MAKERS: dict[str, Callable[..., nn.Module]] = {
    "conv2d": lambda **options: SparseConv2d(2, 2, 3, **options),
    "linear": lambda **options: SparseLinear(18, 2, **options),
}


@pytest.fixture(params=MAKERS)
def layer(request: pytest.FixtureRequest) -> nn.Module:
    """Two filters of 18 weights; the first weight is at the threshold, the second just above."""
    layer = MAKERS[request.param](penalty=0.5)
    with torch.no_grad():
        layer.weight.copy_(torch.sign(layer.weight) * layer.weight.abs().clamp(min=0.1))
        layer.weight.view(-1)[:3] = torch.tensor([layer.threshold, -1.001 * layer.threshold, -1.0])
    return layer


def _input(layer: nn.Module) -> torch.Tensor:
    return torch.randn(1, 2, 5, 5) if isinstance(layer, nn.Conv2d) else torch.randn(3, 18)


def _dense(layer: nn.Module, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    apply = nn.functional.conv2d if isinstance(layer, nn.Conv2d) else nn.functional.linear
    return apply(x, weight, layer.bias)


def test_the_threshold_is_a_hundredth_of_the_largest_first_weight() -> None:
    layer = SparseConv2d(200, 100, 3)
    largest = layer.weight.abs().max().item()  # of 180 000 drawn
    assert layer.threshold.item() == pytest.approx(largest / 100, rel=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_small_weights_count_as_zero(layer: nn.Module, training: bool) -> None:
    x, weight = _input(layer), layer.weight.detach().clone()
    weight.view(-1)[0] = 0
    assert torch.equal(layer.train(training)(x), _dense(layer, x, weight))
    assert torch.equal(layer.sparse_weight(), weight)
    assert layer.density == pytest.approx(35 / 36)
    assert (layer.kept == 1).all() != training


def test_the_gradient_of_the_penalty_is_the_scaled_sign_and_zero_where_dropped(layer: nn.Module) -> None:
    layer.regularization().backward()
    want = 0.5 * layer.threshold * torch.sign(layer.weight.detach())
    want.view(-1)[0] = 0
    torch.testing.assert_close(layer.weight.grad, want)


def _train(layer: nn.Module, steps: int = 3, each: Callable[[], None] = lambda: None) -> None:
    """With momentum that moves the first weight, which is dropped, far above the threshold."""
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    (100 * layer.weight.view(-1)[0]).backward()
    optimizer.step()
    with torch.no_grad():
        layer.weight.view(-1)[0] = 0
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(2):  # gradients of two batches add up
            layer(_input(layer)).square().sum().backward()
        assert layer.weight.grad.view(-1)[0] == 0
        optimizer.step()
        each()
    assert layer.weight.view(-1)[0].abs() > layer.threshold


def test_what_is_dropped_never_comes_back(layer: nn.Module) -> None:
    _train(layer)
    assert layer.sparse_weight().view(-1)[0] == 0
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.kept.fill_(1)
        other.weight.zero_()
    other.load_state_dict(layer.state_dict())
    x = _input(layer)
    assert torch.equal(other.eval()(x), layer.eval()(x))


@pytest.mark.parametrize("use_buffers", [True, False])
@pytest.mark.parametrize("ema", [True, False])
def test_averages_over_steps_drop_what_any_step_dropped(
    layer: nn.Module, use_buffers: bool, ema: bool
) -> None:
    average = AveragedModel(
        layer, multi_avg_fn=get_ema_multi_avg_fn(0.999) if ema else None, use_buffers=use_buffers
    )
    average.update_parameters(layer)
    _train(layer, each=lambda: average.update_parameters(layer))
    assert not layer.mask.view(-1)[0]
    assert not average.module.mask.view(-1)[0]
    assert average.module.density <= layer.density


def test_a_density_is_reached_by_dropping_the_smallest(layer: nn.Module) -> None:
    sizes = layer.sparse_weight().abs().flatten().sort(descending=True).values
    layer.drop_to_(0.25)
    assert layer.density == 0.25
    kept = layer.sparse_weight().abs().flatten()
    assert torch.equal(kept.sort(descending=True).values[:9], sizes[:9])
    before = layer.mask
    layer.drop_to_(0.9)
    assert torch.equal(layer.mask, before)
    for density in (0.0, 1.1):
        with pytest.raises(fc.MethodError, match="allowed: above 0, at most 1"):
            layer.drop_to_(density)


GEOMETRIES: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1, "bias": False},
    {"kernel_size": (5, 2), "stride": (2, 1), "padding": (2, 0), "dilation": (1, 2)},
    {"kernel_size": 4, "padding": "same", "padding_mode": "reflect"},
    {"kernel_size": 3, "groups": 2, "stride": 2},
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_lookup_convolution_is_one_convolution_by_the_product(geometry: dict[str, Any]) -> None:
    layer = LookupConv2d(8, 6, dictionary_size=4, **geometry).double()
    layer.lookups.drop_to_(0.3)
    groups = geometry.get("groups", 1)
    merged = torch.cat(
        [
            torch.einsum("okrs,kc->ocrs", sparse, atoms[:, :, 0, 0])
            for sparse, atoms in zip(
                layer.lookups.sparse_weight().chunk(groups),
                layer.dictionary.weight.chunk(groups),
                strict=True,
            )
        ]
    )
    dense = nn.Conv2d(8, 6, **geometry).double()
    dense.weight.data.copy_(merged)
    if dense.bias is not None:
        dense.bias.data.copy_(layer.lookups.bias)
    x = torch.randn(2, 8, 12, 11, dtype=torch.float64)
    torch.testing.assert_close(layer(x), dense(x))
    assert layer.dictionary.bias is None


@pytest.mark.parametrize("groups", [1, 2])
def test_it_starts_from_the_lookups_nearest_to_a_convolution(groups: int) -> None:
    conv, x = nn.Conv2d(8, 12, 3, padding=1, groups=groups), torch.randn(2, 8, 9, 9)
    layer = LookupConv2d.from_conv(conv, fc.Lookup(dictionary_size=3, density=0.2))
    parts = [
        lookup(part.detach().numpy(), dictionary_size=3, density=0.2) for part in conv.weight.chunk(groups)
    ]
    near = torch.cat([torch.from_numpy(part.weight) for part in parts]).float()
    want = nn.functional.conv2d(x, near, conv.bias, padding=1, groups=groups)
    # 1e-5: factors in float32, sums of some 100 products in another order
    assert (layer(x) - want).abs().max() <= 1e-5 * want.abs().max()
    assert layer.error == pytest.approx(float((near - conv.weight).norm() / conv.weight.norm()), rel=1e-4)
    assert 0.15 < layer.density <= 0.2
    assert layer.lookups.weight.abs().max().item() == pytest.approx(1 / 27**0.5, rel=1e-5)


def test_an_error_asked_for_is_kept_while_it_trains() -> None:
    conv = nn.Conv2d(8, 12, 3)
    layer = LookupConv2d.from_conv(conv, fc.Lookup(dictionary_size=8, error=0.01)).train()
    before = layer.density
    layer(torch.randn(1, 8, 5, 5))
    assert layer.density == before
    assert layer.error <= 0.01


def test_a_linear_layer_starts_from_lookups() -> None:
    linear, x = nn.Linear(20, 16), torch.randn(5, 20)
    layer = LookupLinear.from_linear(linear, fc.Lookup(dictionary_size=10, density=0.3))
    merged = layer.lookups.sparse_weight() @ layer.dictionary.weight
    want = nn.functional.linear(x, merged, linear.bias)
    torch.testing.assert_close(layer(x), want)
    assert layer.error == pytest.approx(
        float((merged - linear.weight).norm() / linear.weight.norm()), rel=1e-4
    )
    fresh = LookupLinear.fresh(linear, fc.Lookup(dictionary_size=10, density=0.3))
    assert fresh.density > 0.9
    assert fresh.lookups.target_density == 0.3


def test_noise_comes_out_as_large_as_of_a_dense_layer() -> None:
    x = torch.randn(4, 64, 20, 20)
    with torch.no_grad():
        sizes = [
            layer(x).std() for layer in (LookupConv2d(64, 64, 3, dictionary_size=32), nn.Conv2d(64, 64, 3))
        ]
    assert 0.7 < sizes[0] / sizes[1] < 1.4


def test_the_compiler_knows_them() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.ReLU(),
        LookupConv2d(64, 64, 3, dictionary_size=16), nn.ReLU(), nn.Flatten(),
        LookupLinear(64 * 100, 256, dictionary_size=64),
    ).eval()  # fmt: skip
    model[2].lookups.drop_to_(0.02)
    model[5].lookups.drop_to_(0.02)
    x = torch.randn(1, 3, 14, 14)
    methods = {layer.name: layer.method for layer in choices(model, (x,), ZEN_4).layers}
    assert methods["2.dictionary"] == methods["2.lookups"] == "lookup"
    assert methods["5.lookups"] == "lookup"
    want = model(x).detach()
    # 2e-5: what every compiled layer keeps to
    assert (fc.compile(model, (x,))(x) - want).abs().max() <= 2e-5 * want.abs().max()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LookupConv2d(8, 4, 3, dictionary_size=37), "dictionary_size is 37; allowed: 1 to 36"),
        (lambda: LookupConv2d(8, 4, 3, dictionary_size=0), "dictionary_size is 0; allowed: 1 to 36"),
        (lambda: LookupLinear(8, 4, dictionary_size=5), "dictionary_size is 5; allowed: 1 to 4"),
        (lambda: LookupConv2d(8, 4, 3, dictionary_size=3, penalty=-1.0), "penalty is -1.0; allowed: 0 or more"),
        (lambda: LookupConv2d.from_conv(nn.Conv2d(8, 4, 3), fc.Lookup()), "dictionary_size is None"),
        (
            lambda: LookupConv2d.from_conv(nn.Conv2d(8, 4, 3), fc.Lookup(dictionary_size=1, error=0.1)),
            "a dictionary of 1 reaches",
        ),
        (
            lambda: LookupConv2d.fresh(nn.Conv2d(8, 4, 3), fc.Lookup(dictionary_size=1, error=0.1)),
            "allowed for a layer with first weights of its own",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(fc.MethodError, match=message):
        make()


def test_as_few_as_there_are_to_be_are_not_pulled_at_any_more() -> None:
    layer = LookupConv2d(16, 32, 3, dictionary_size=8).lookups
    assert layer.regularization() > 0
    layer.target_density = 0.25
    assert layer.regularization() > 0
    layer.drop_to_(0.25)
    assert layer.regularization() == 0
